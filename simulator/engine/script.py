"""What a rank runs, as tasks, for some steps in a row; and what its tasks cost."""

from __future__ import annotations

from collections.abc import Mapping

from simulator.cost.compute import ComputeCost
from simulator.program.instructions import STREAM_OF, Instruction, Kind, Lane, Stream
from simulator.program.program import Program
from simulator.program.tasks import Merging, tasks


class Script:
    """The tasks of one pipeline coordinate, shared by all ranks that run them.

    Attributes
    ----------
    length
        Tasks of one step; those of the next step are counted on.
    needs
        For each task of all steps those of other lanes that must be done.
    lanes
        For each lane its queue of tasks.
    """

    def __init__(self, program: Program, coordinate: int, merging: Merging, steps: int) -> None:
        self._instructions = program.lists[coordinate]
        self._tasks = one = tasks(program, coordinate, merging)
        self.length = len(one.positions)
        starts = [step * self.length for step in range(steps)]
        self.needs = list(one.needs) if steps == 1 else self._repeated(one.needs, steps)
        self.lanes: Mapping[Lane, list[int]] = {
            lane: [start + task for start in starts for task in queue] for lane, queue in one.lanes.items()
        }

    def _repeated(self, needs: tuple[tuple[int, ...], ...], steps: int) -> list[tuple[int, ...]]:
        """Return the needs of several steps; what is gathered was updated in the step before."""
        length, first = self.length, [self.first(task) for task in range(self.length)]
        lasts = [self.of(task)[-1] for task in range(length)]
        updates = {each.stage: task - length for task, each in enumerate(lasts) if each.kind is Kind.OPTIM}
        gathers = {task: updates[each.stage] for task, each in enumerate(first) if each.kind is Kind.UNSHARD}
        repeated = [tuple([step * length + need for need in each]) for step in range(steps) for each in needs]
        for step in range(1, steps):
            for task, update in gathers.items():
                repeated[step * length + task] += (step * length + update,)
        return repeated

    def shape(self, task: int) -> int:
        """Return the number that tasks share which do the same."""
        return self._tasks.shapes[task % self.length]

    def positions(self, task: int) -> tuple[int, ...]:
        """Return where a task's instructions stand in the coordinate's list."""
        return self._tasks.positions[task % self.length]

    def of(self, task: int) -> list[Instruction]:
        """Return the instructions of a task."""
        return [self._instructions[position] for position in self.positions(task)]

    def first(self, task: int) -> Instruction:
        """Return the first instruction of a task."""
        return self._instructions[self.positions(task)[0]]


class TaskCost:
    """Seconds that a script's tasks compute on one kind of device.

    Parameters
    ----------
    script
        Tasks.
    cost
        Seconds of their computations.
    """

    def __init__(self, script: Script, cost: ComputeCost) -> None:
        self.seconds = cost.seconds
        self._script = script
        self._segments: dict[int, tuple[float, ...]] = {}

    def segments(self, task: int) -> tuple[float, ...]:
        """Return the seconds of computing before, between and after the collectives inside a task."""
        shape = self._script.shape(task)
        found = self._segments.get(shape)
        if found is None:
            sums = [0.0]
            for instruction in self._script.of(task):
                if STREAM_OF[instruction.kind] is Stream.COMPUTE:
                    sums[-1] += self.seconds(instruction)
                else:
                    sums.append(0.0)
            found = self._segments[shape] = tuple(sums)
        return found
