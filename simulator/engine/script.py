"""What a rank runs, as tasks, for some steps in a row; and what its tasks cost."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from simulator.cost.compute import ComputeCost
from simulator.engine.course import Course, Work, lead
from simulator.program.coded import KIND_NUMBERS, Ints
from simulator.program.instructions import ALONE, PARAMETER_GATHERS, STREAM_OF, UNSHARDS, Instruction, Kind, Stream
from simulator.program.merging import Merging
from simulator.program.program import Program
from simulator.program.tasks import tasks

GATHERINGS = (*UNSHARDS.values(), *PARAMETER_GATHERS.values())
"""What waits for the update before it, of this step or the last one."""


class Script:
    """The tasks of one pipeline coordinate, shared by all ranks that run them.

    Attributes
    ----------
    length
        Tasks of one step; those of the next step are counted on.
    shapes
        For each task the number that tasks share which do the same.
    examples, waits
        Of each shape one task, and for each of its instructions the place in the task of what it waits for.
    meeting_lanes
        For each shape the lane in which it meets other ranks, or that of computations.
    missing
        For each task how many must be done before it, the one before it in its lane among them.
    followers
        For each task those that wait for it, the next one in its lane first.
    first
        The tasks that wait for nothing.
    """

    def __init__(self, program: Program, coordinate: int, merging: Merging, steps: int) -> None:
        self._instructions = program.lists[coordinate]
        self._tasks = one = tasks(program, coordinate, merging)
        self.length = len(one.positions)
        self.shapes = one.shapes * steps
        self.examples, self.waits, self.meeting_lanes = one.examples, one.waits, one.meeting_lanes
        self.missing, self.followers = one.missing, one.followers
        if steps > 1:
            self._repeat(steps, program.keep(("joints", coordinate, merging), self._joints))
        self.first = [task for task, count in enumerate(self.missing) if not count]

    def __len__(self) -> int:
        """Return the number of instructions of one step."""
        return len(self._instructions)

    def _repeat(self, steps: int, joints: list[tuple[int, int]]) -> None:
        """Join steps: each lane goes on in its order, and what is gathered was updated in the step before."""
        one, length = self._tasks, self.length
        missing = list(one.missing * steps)
        followers = [[start + task for task in each] for start in self._starts(steps) for each in one.followers]
        for start in self._starts(steps)[1:]:
            for before, after in joints:
                missing[start + after] += 1
                followers[start - length + before].append(start + after)
        self.missing, self.followers = tuple(missing), tuple(map(tuple, followers))

    def _starts(self, steps: int) -> range:
        return range(0, steps * self.length, self.length)

    def _joints(self) -> list[tuple[int, int]]:
        """Return (task of a step, task of the next step that waits for it)."""
        updated = (Kind.OPTIM, Kind.PARAM_FROM_HOST)
        lasts = [(last.stage, task) for task in range(self.length) if (last := self.of(task)[-1]).kind in updated]
        updates = dict(lasts)
        gathers = [task for task in range(self.length) if self.of(task)[0].kind in GATHERINGS]
        lanes = [(queue[-1], queue[0]) for queue in self._tasks.lanes.values()]
        ahead = [(update, task) for task in gathers if task < (update := updates[self.of(task)[0].stage])]
        behind = set(gathers) - {task for _, task in ahead} | set(updates.values())
        # What is gathered after an update is whole before the next step computes.
        first = self._tasks.lanes[Stream.COMPUTE, -1][0]
        return lanes + ahead + [(task, first) for task in sorted(behind)]

    @cached_property
    def kinds(self) -> list[Ints]:
        """For each shape, as positions in ``tuple(Kind)``, what its instructions do."""
        return [np.array([KIND_NUMBERS[each.kind] for each in self.of(task)]) for task in self.examples]

    def of(self, task: int) -> list[Instruction]:
        """Return the instructions of a task."""
        return [self._instructions[position] for position in self._tasks.positions[task % self.length]]


class TaskCost:
    """What a script's tasks cost on one kind of device.

    Parameters
    ----------
    script
        Tasks.
    cost
        Seconds of their computations.

    Attributes
    ----------
    works
        For each shape its instructions; none where it only communicates.
    leads
        For each shape what it does by itself if its host begins to launch when it is issued.
    """

    def __init__(self, script: Script, cost: ComputeCost) -> None:
        self._cost = cost
        pairs = zip(script.examples, script.waits, strict=True)
        self.works = [tuple(self._works(script.of(task), waits)) for task, waits in pairs]
        self.leads = [lead(works, 0.0) for works in self.works]
        self._launched: dict[tuple[int, float], Course] = {}

    def launched(self, shape: int, host: float) -> Course:
        """Return what a task does by itself if the host can begin to launch it ``host`` seconds after its issue."""
        works = self.works[shape]
        if not works or works[0].waits:
            return self.leads[shape]
        if (shape, host) not in self._launched:
            self._launched[shape, host] = lead(works, host)
        return self._launched[shape, host]

    def _works(self, instructions: list[Instruction], waits: tuple[int, ...]) -> Iterable[Work]:
        if len(instructions) == 1 and STREAM_OF[instructions[0].kind] not in ALONE:
            return
        for instruction, need in zip(instructions, waits, strict=True):
            if STREAM_OF[instruction.kind] in ALONE:
                yield Work(
                    computes=True,
                    need=need,
                    seconds=self._cost.seconds(instruction),
                    launch=self._cost.host_seconds(instruction),
                    waits=self._waits(instruction),
                )
            else:
                yield Work(computes=False, need=need)

    def _waits(self, instruction: Instruction) -> bool:
        """Return whether the host waits until the device is free before it launches an instruction."""
        return instruction.kind is Kind.OPTIM or self._cost.waits(instruction)
