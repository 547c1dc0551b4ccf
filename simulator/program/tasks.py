"""Tasks: one instruction, or several of a rank that run back to back whatever anybody else does.

A rank that computes, sums over its tensor-parallel group and computes on waits for nobody but that group, which does
the same. An interpreter with a clock may then treat the whole as one: what happens inside follows from when it began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain, pairwise

from simulator.program.dependencies import dependencies
from simulator.program.instructions import STREAM_OF, Instruction, Kind, Lane, Stream
from simulator.program.program import Program


class Merging(IntEnum):
    """What is merged into tasks."""

    NOTHING = 0
    COMPUTE = 1
    """Computations in a row."""
    COLLECTIVES = 2
    """Tensor-parallel collectives between computations too: they must take times that nobody else changes."""


@dataclass(frozen=True, slots=True)
class TaskList:
    """The tasks of one pipeline coordinate.

    Parameters
    ----------
    positions
        For each task the positions of its instructions in the coordinate's list, in running order. A task of several
        begins and ends with a computation.
    shapes
        For each task a number that tasks share which do the same for other micro-batches.
    lanes
        Queue of each lane; a task of several is in that of the computations.
    lane_of
        For each task the position of its lane in ``lanes``.
    followers
        For each task those that wait for it: the next one in its lane, then tasks of other lanes.
    missing
        For each task how many it waits for.
    """

    positions: tuple[tuple[int, ...], ...]
    shapes: tuple[int, ...]
    lanes: Mapping[Lane, tuple[int, ...]]
    lane_of: tuple[int, ...]
    followers: tuple[tuple[int, ...], ...]
    missing: tuple[int, ...]


def tasks(program: Program, pipeline_rank: int, merging: Merging) -> TaskList:
    """Return the tasks of a pipeline coordinate; they are worked out once for a program."""
    key = (pipeline_rank, int(merging))
    if key not in program.kept_tasks:
        program.kept_tasks[key] = _task_list(program, program.lists[pipeline_rank], merging)
    return program.kept_tasks[key]


def _task_list(program: Program, instructions: Sequence[Instruction], merging: Merging) -> TaskList:
    needs = dependencies(program, tuple(instructions))
    merger = _Merger(instructions, needs, merging)
    if not merger.sound:
        merger = _Merger(instructions, needs, Merging.COMPUTE)
    task_of = [0] * len(instructions)
    numbers: dict[tuple[tuple[Kind, int, int], ...], int] = {}
    shapes = []
    lanes: dict[Lane, list[int]] = {}
    for task, positions in enumerate(merger.groups):
        for position in positions:
            task_of[position] = task
        works = tuple([(kind, stage, part) for kind, stage, _, part in map(instructions.__getitem__, positions)])
        shapes.append(numbers.setdefault(works, len(numbers)))
        lanes.setdefault(instructions[positions[0]].lane, []).append(task)
    followers: list[list[int]] = [[] for _ in merger.groups]
    missing = [0] * len(merger.groups)
    for queue in lanes.values():
        for before, task in pairwise(queue):
            followers[before].append(task)
            missing[task] += 1
    for task, positions in enumerate(merger.groups):
        for need in needs[positions[0]]:
            followers[task_of[need]].append(task)
            missing[task] += 1
    numbers_of_lanes = {lane: number for number, lane in enumerate(lanes)}
    return TaskList(
        positions=tuple(map(tuple, merger.groups)),
        shapes=tuple(shapes),
        lanes={lane: tuple(queue) for lane, queue in lanes.items()},
        lane_of=tuple(numbers_of_lanes[instructions[positions[0]].lane] for positions in merger.groups),
        followers=tuple(map(tuple, followers)),
        missing=tuple(missing),
    )


class _Merger:
    """Finds the tasks of a list.

    An instruction joins the open task if it begins when that ends, not earlier and not later, and if nobody outside
    waits for what is inside. ``sound`` is False where the lane of collectives has an order that this cannot keep.
    """

    def __init__(self, instructions: Sequence[Instruction], needs: Sequence[tuple[int, ...]], merging: Merging) -> None:
        self.groups: list[list[int]] = []
        self.sound = True
        self._streams = [STREAM_OF[instruction.kind] for instruction in instructions]
        self._needs = needs
        self._merging = merging
        self._wanted = [0] * len(instructions)
        for need in chain.from_iterable(needs):
            self._wanted[need] += 1
        # Updates are what the next step's gathering waits for.
        self._closes = [instruction.kind is Kind.OPTIM for instruction in instructions]
        self._open: list[int] = []
        self._between = -1  # a collective that joins if the next computation waits for it
        self._inside = -1  # the last collective that joined
        self._last = -1  # the last collective at all
        self._known = -1  # collectives up to this one are done when the next computation begins
        for position, stream in enumerate(self._streams):
            if stream is Stream.COMPUTE:
                self._compute(position)
            elif stream is Stream.TP:
                self._collective(position)
            else:
                self.groups.append([position])
        self._let_go()
        # Otherwise the first collective of a following step might have to wait for it.
        self.sound = self.sound and (self._last == self._known or merging is not Merging.COLLECTIVES)

    def _compute(self, position: int) -> None:
        needs = self._needs[position]
        if self._between >= 0 and needs == (self._between,):
            self._open += [self._between, position]
            self._inside = self._known = self._between
            self._between = -1
            return
        self._let_go()
        for need in needs:
            if self._streams[need] is Stream.TP:
                self._known = max(self._known, need)
        if self._merging and self._open and not needs and self._is_free(0):
            self._open.append(position)
        else:
            self._open = [position]
            self.groups.append(self._open)

    def _collective(self, position: int) -> None:
        self._let_go()
        joins = (
            self._merging is Merging.COLLECTIVES
            and bool(self._open)
            and self._needs[position] == (self._open[-1],)
            and self._is_free(1)
            and self._wanted[position] == 1
            and self._last <= self._known
        )
        if joins:
            self._between = position
        else:
            self._alone(position)
        self._last = position

    def _is_free(self, inside: int) -> bool:
        """Return whether nobody waits for the end of the open task but ``inside`` instructions that may join it."""
        return self._wanted[self._open[-1]] == inside and not self._closes[self._open[-1]]

    def _let_go(self) -> None:
        if self._between >= 0:
            self._alone(self._between)
            self._between = -1

    def _alone(self, position: int) -> None:
        """Make a collective a task of its own; the one before it in its lane must be done when it may begin."""
        self.groups.append([position])
        if self._inside > max(self._needs[position], default=-1):
            self.sound = False
