"""What everything costs, whenever it happens: tasks on devices, messages on media; worked out once for all steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simulator.cost.calibration import Calibration
from simulator.cost.compute import ComputeCost
from simulator.engine.course import Course
from simulator.engine.fold import Folded, MediumClass, RankClass
from simulator.engine.messages import MessageCost
from simulator.engine.network import INFINITE, alone
from simulator.engine.script import Script, TaskCost
from simulator.engine.system import System
from simulator.program.instructions import STREAM_OF, Instruction, Lane, Stream
from simulator.program.merging import Merging
from simulator.program.program import Program

TP_LANE: Lane = (Stream.TP, -1)
"""Where tensor-parallel collectives run."""

Message = tuple[tuple[float, Mapping[int, float], float, float], ...]
"""Transfers in order: seconds before bytes flow, what their flow loads, how many there are, their rate while alone."""

Kind = tuple[int, float]
"""What tells ranks apart that meet in a task: what they did before, and where their hosts are then."""


class Prices:
    """What the tasks of a folded system cost.

    Parameters
    ----------
    program, system, folded
        What is simulated.
    costs
        For each class of ranks the prices on its device.
    calibration
        Measured times.
    varies
        Whether compute times vary, so that nothing may be merged.

    Attributes
    ----------
    keys
        For each class of ranks its pipeline coordinate, and what of it is merged.
    tasks
        For each class of ranks what its tasks cost.
    launches
        Whether a host may hold a device up.
    uniform
        For each class of media whether all who meet there take equal times, launched by nobody.
    courses
        What those do who meet in a task, by medium, shape, and what they did before.
    sent
        For each class of ranks and each shape of its tasks the message that it sends.
    """

    def __init__(
        self,
        program: Program,
        system: System,
        folded: Folded,
        costs: Sequence[ComputeCost],
        calibration: Calibration,
        *,
        varies: bool,
    ) -> None:
        self.program = program
        self.folded = folded
        self.launches = any(cost.launches for cost in costs)
        self.keys = [
            (program.plan.mesh.coordinate(each.representative, "pp"), self.merging(each, varies))
            for each in folded.ranks
        ]
        known: dict[tuple[int, Merging, int], TaskCost] = {}
        self.tasks: list[TaskCost] = []
        for key, cost in zip(self.keys, costs, strict=True):
            if (*key, id(cost)) not in known:
                known[*key, id(cost)] = TaskCost(Script(program, *key, steps=1), cost)
            self.tasks.append(known[*key, id(cost)])
        self.uniform = self._uniform()
        self.courses: dict[tuple[int, int, tuple[Kind, ...]], list[Course]] = {}
        self.sent: list[dict[int, Message]] = [{} for _ in folded.ranks]
        self._messages = MessageCost(program, system, folded.capacities, calibration)

    def merging(self, rank: RankClass, varies: bool) -> Merging:
        """Return what may run as one because nothing else changes how long it takes."""
        if varies or rank.weights:
            return Merging.NOTHING
        group = rank.media.get(TP_LANE)
        constant = group is not None and self.folded.media[group].private
        return Merging.COLLECTIVES if constant else Merging.COMPUTE

    def _uniform(self) -> list[bool]:
        users: list[set[int]] = [set() for _ in self.folded.media]
        for rank, tasks in zip(self.folded.ranks, self.tasks, strict=True):
            for medium in rank.media.values():
                users[medium].add(id(tasks))
        return [len(each) == 1 and not self.launches for each in users]

    def durations(self, medium: MediumClass, instructions: Sequence[Instruction]) -> list[float]:
        """Return the seconds of each collective of a task."""
        collectives = (each for each in instructions if STREAM_OF[each.kind] is Stream.TP)
        return [self._messages.seconds(medium, instruction) for instruction in collectives]

    def message(self, medium: MediumClass, instruction: Instruction) -> Message:
        """Return what a message does; where nobody else is on its way, time passes and that is all."""
        if medium.private:
            return ((self._messages.seconds(medium, instruction), {}, 0.0, INFINITE),)
        transfers = self._messages.transfers(medium.representative, instruction)
        ways = [(medium.legs[each.leg], each) for each in transfers]
        capacities = self.folded.capacities
        return tuple((each.latency, way, each.size, alone(capacities, way, INFINITE)) for way, each in ways)
