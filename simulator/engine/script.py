"""What a rank runs, as tasks, for some steps in a row; and what its tasks cost."""

from __future__ import annotations

from simulator.cost.compute import ComputeCost
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
    examples
        One task of each shape.
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
        self.examples, self.meeting_lanes = one.examples, one.meeting_lanes
        self.missing, self.followers = one.missing, one.followers
        if steps > 1:
            self._repeat(steps)
        self.first = [task for task, count in enumerate(self.missing) if not count]

    def __len__(self) -> int:
        """Return the number of instructions of one step."""
        return len(self._instructions)

    def _repeat(self, steps: int) -> None:
        """Join steps: each lane goes on in its order, and what is gathered was updated in the step before."""
        one, length = self._tasks, self.length
        missing = list(one.missing * steps)
        followers = [[start + task for task in each] for start in self._starts(steps) for each in one.followers]
        for start in self._starts(steps)[1:]:
            for before, after in self._joints():
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

    def positions(self, task: int) -> tuple[int, ...]:
        """Return where a task's instructions stand in the coordinate's list."""
        return self._tasks.positions[task % self.length]

    def of(self, task: int) -> list[Instruction]:
        """Return the instructions of a task."""
        return [self._instructions[position] for position in self.positions(task)]


class TaskCost:
    """Seconds that a script's tasks compute on one kind of device.

    Parameters
    ----------
    script
        Tasks.
    cost
        Seconds of their computations.

    Attributes
    ----------
    segments
        For each shape the seconds of computing before, between and after the collectives inside such a task; empty for
        one that only communicates.
    hosts
        For each shape the seconds in which the host launches it, and whether it first waits until the device is free.
    """

    def __init__(self, script: Script, cost: ComputeCost) -> None:
        self.seconds = cost.seconds
        self.segments = [self._segments(script.of(task)) for task in script.examples]
        self.hosts = [
            (cost.host_seconds(first), first.kind is Kind.OPTIM or cost.waits(first))
            for first in (script.of(task)[0] for task in script.examples)
        ]

    def _segments(self, instructions: list[Instruction]) -> tuple[float, ...]:
        if len(instructions) == 1:
            alone = STREAM_OF[instructions[0].kind] in ALONE
            return (self.seconds(instructions[0]),) if alone else ()
        sums = [0.0]
        for instruction in instructions:
            if STREAM_OF[instruction.kind] is Stream.COMPUTE:
                sums[-1] += self.seconds(instruction)
            else:
                sums.append(0.0)
        return tuple(sums)
