"""The SimPy interpreter of a Program: one callback walker a stream, rendezvous by counting."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import simpy

from simulator.collector import paused_collector
from simulator.cost.calibration import Calibration
from simulator.cost.compute import ComputeCost
from simulator.cost.jitter import Noise
from simulator.engine.fold import Folded, MediumClass, RankClass, fold
from simulator.engine.messages import MessageCost
from simulator.engine.network import Network
from simulator.engine.system import System, build_system
from simulator.program.dependencies import dependencies
from simulator.program.instructions import Instruction, Kind, Lane
from simulator.program.liveness import held_after
from simulator.program.program import Program
from simulator.results.timeline import Span, Timeline, curve
from simulator.topology import Device, Topology

WARMUP_STEPS, MAX_STEPS = 3, 8
"""How many steps in a row are simulated at least, and at most, if they are not apart."""


@paused_collector()
def simulate(
    program: Program,
    topology: Topology,
    calibration: Calibration,
    *,
    folding: bool = True,
    noise: Noise | None = None,
) -> tuple[Timeline, ComputeCost]:
    """Predict one training step.

    Parameters
    ----------
    program
        The compiled plan.
    topology
        Where it runs.
    calibration
        Measured times, possibly none.
    folding
        Simulate one of each class of identical ranks; False simulates all.
    noise
        Varies compute times; then no two ranks are identical, and all are simulated.

    Returns
    -------
    Timeline
        Starts at 0 with all ranks ready; without a barrier between steps, at the end of the step before.
    ComputeCost
        Prices on rank 0's device, and how many of them were measured.
    """
    system = build_system(program, topology)
    mesh = program.plan.mesh
    devices = [topology.device(rank) for rank in range(mesh.world_size)]
    labels = [(mesh.coordinate(rank, "pp"), device_key(device)) for rank, device in enumerate(devices)]
    folded = fold(system, labels, folding and not noise)
    costs = {device_key(device): ComputeCost(program, device, calibration) for device in devices}
    prices = [costs[device_key(devices[rank_class.representative])] for rank_class in folded.ranks]

    def run(steps: int) -> Timeline:
        return _Run(program, system, folded, prices, calibration, noise, steps).timeline()

    return _with_memory(program, _one_step(program, run)), costs[device_key(devices[0])]


def _one_step(program: Program, run: Callable[[int], Timeline]) -> Timeline:
    """Return a step from rest if all ranks wait for each other before the update, else one of many in a row.

    Without the barrier a rank is in the next step while others finish this one. Steps in a row soon take equal times;
    the one after which they do, to rounding, is returned, or the last that was tried.
    """
    if program.has_barrier or program.plan.pp == 1:
        return run(1)
    shorter = run(WARMUP_STEPS)
    for steps in range(WARMUP_STEPS + 1, MAX_STEPS + 1):
        longer = run(steps)
        if math.isclose(longer.step_time, shorter.step_time, rel_tol=1e-9):
            return longer
        shorter = longer
    return shorter


def _with_memory(program: Program, timeline: Timeline) -> Timeline:
    """Add what each rank holds after each computation."""
    held = [held_after(program, coordinate) for coordinate in range(len(program.lists))]
    place = program.plan.mesh.coordinate
    return replace(
        timeline, memory={rank: curve(timeline.of(rank), held[place(rank, "pp")]) for rank in timeline.ranks}
    )


def device_key(device: Device) -> tuple[str, float]:
    """Return what tells devices of one topology apart: kind and speed."""
    return (device.kind, device.speed)


class _Walker:
    """One lane of one rank class: runs its instructions in order, each when its dependencies are done."""

    __slots__ = ("head", "medium", "queue", "rank")

    def __init__(self, rank: _Rank, medium: int | None) -> None:
        self.rank = rank
        self.medium = medium
        self.queue: list[int] = []
        self.head = 0


class _Rank:
    """State of one rank class."""

    __slots__ = ("cost", "done", "fold", "instructions", "issued", "length", "needs", "waiting", "walkers")

    def __init__(
        self,
        fold: RankClass,
        cost: ComputeCost,
        instructions: tuple[Instruction, ...],
        needs: list[tuple[int, ...]],
        steps: int,
    ) -> None:
        self.fold = fold
        self.cost = cost
        self.length = len(instructions)
        self.needs = needs if steps == 1 else _repeated(needs, instructions, steps)
        self.instructions = instructions = instructions * steps
        self.done = bytearray(len(instructions))
        self.issued = [0.0] * len(instructions)
        self.waiting: dict[int, list[_Walker]] = {}
        self.walkers: dict[Lane, _Walker] = {}
        for position, instruction in enumerate(instructions):
            lane = instruction.lane
            if lane not in self.walkers:
                self.walkers[lane] = _Walker(self, fold.media.get(lane))
            self.walkers[lane].queue.append(position)


def _repeated(needs: list[tuple[int, ...]], instructions: tuple[Instruction, ...], steps: int) -> list[tuple[int, ...]]:
    """Return the needs of a list that runs several times in a row; what is gathered was updated in the step before."""
    length = len(needs)
    updates = {each.stage: place - length for place, each in enumerate(instructions) if each.kind is Kind.OPTIM}
    gathers = {place: updates[each.stage] for place, each in enumerate(instructions) if each.kind is Kind.UNSHARD}
    repeated = [tuple([step * length + need for need in each]) for step in range(steps) for each in needs]
    for step in range(1, steps):
        for place, update in gathers.items():
            repeated[step * length + place] += (step * length + update,)
    return repeated


class _Run:
    """Some simulated steps in a row; the last one is recorded."""

    def __init__(
        self,
        program: Program,
        system: System,
        folded: Folded,
        costs: list[ComputeCost],
        calibration: Calibration,
        noise: Noise | None,
        steps: int,
    ) -> None:
        self.folded = folded
        self.env = simpy.Environment()
        self.network = Network(self.env, list(folded.capacities))
        self.messages = MessageCost(program, system, self.network, calibration)
        self.noise = noise
        self.spans: list[Span] = []
        self.ends = [0.0] * steps
        # Both ends of a medium have its messages in the same order (verify() saw to it), so there is one at a time.
        self.present: list[list[_Walker]] = [[] for _ in folded.media]
        needs = [dependencies(program, instructions) for instructions in program.lists]
        coordinates = [program.plan.mesh.coordinate(c.representative, "pp") for c in folded.ranks]
        self.ranks = [
            _Rank(rank_class, cost, program.lists[coordinate], needs[coordinate], steps)
            for rank_class, cost, coordinate in zip(folded.ranks, costs, coordinates, strict=True)
        ]

    def timeline(self) -> Timeline:
        """Run to the end and return what happened."""
        for rank in self.ranks:
            for walker in rank.walkers.values():
                self.advance(walker)
        self.env.run()
        for rank in self.ranks:
            assert all(rank.done), f"rank {rank.fold.representative} did not finish; verify() should have found out"
        return Timeline(
            source="predicted",
            begin=self.ends[-2] if len(self.ends) > 1 else 0.0,
            end=self.ends[-1],
            spans=tuple(self.spans),
            ranks={rank.fold.representative: rank.fold.members for rank in self.ranks},
        )

    def advance(self, walker: _Walker) -> None:
        """Start the next instruction of a lane if nothing is missing for it."""
        if walker.head == len(walker.queue):
            return
        rank = walker.rank
        position = walker.queue[walker.head]
        for need in rank.needs[position]:
            if not rank.done[need]:
                rank.waiting.setdefault(need, []).append(walker)
                return
        rank.issued[position] = self.env.now
        if walker.medium is None:
            self.compute(walker, rank.instructions[position])
        else:
            self.communicate(walker, walker.medium, rank.instructions[position])

    def compute(self, walker: _Walker, instruction: Instruction) -> None:
        """Occupy the device, or a share of the host's cores."""
        seconds = walker.rank.cost.seconds(instruction)
        if self.noise:
            seconds *= self.noise.factor()
        finish = partial(self.finish, walker, self.env.now)
        weights = walker.rank.fold.core_weights
        if weights and seconds:
            # One thread is never faster than one core: that rate is 1 / weight of a single rank.
            speed = self.messages.core_speed
            self.network.start(weights, seconds * speed, speed, finish)
        else:
            self.after(seconds, finish)

    def communicate(self, walker: _Walker, index: int, instruction: Instruction) -> None:
        """Meet the other participants; the last one to come starts the message."""
        medium, present = self.folded.media[index], self.present[index]
        present.append(walker)
        if len(present) < medium.participants:
            return
        self.present[index] = []
        self.transfer(medium, instruction, partial(self.arrive, present, self.env.now))

    def transfer(self, medium: MediumClass, instruction: Instruction, arrive: Callable[..., None]) -> None:
        """Let latency pass, then move the bytes."""
        if medium.private:
            self.after(self.messages.seconds(medium, instruction), arrive)
            return
        transfer, start = self.messages.transfer(medium, instruction), self.network.start
        if transfer.size:
            self.after(transfer.latency, lambda _: start(medium.weights, transfer.size, float("inf"), arrive))
        else:
            self.after(transfer.latency, arrive)

    def after(self, seconds: float, call: Callable[..., None]) -> None:
        """Call back when ``seconds`` have passed."""
        callbacks = self.env.timeout(seconds).callbacks
        assert callbacks is not None
        callbacks.append(call)

    def arrive(self, present: list[_Walker], start: float, _: object = None) -> None:
        """Finish a message for all who took part in it."""
        for walker in present:
            self.finish(walker, start)

    def finish(self, walker: _Walker, start: float, _: object = None) -> None:
        """Record the span and let those go on that waited for it."""
        rank = walker.rank
        position = walker.queue[walker.head]
        step, now = position // rank.length, self.env.now
        self.ends[step] = now if now > self.ends[step] else self.ends[step]
        if step == len(self.ends) - 1:
            instruction = rank.instructions[position]
            self.spans.append(Span(rank.fold.representative, instruction, rank.issued[position], start, now))
        rank.done[position] = 1
        walker.head += 1
        self.advance(walker)
        for other in rank.waiting.pop(position, ()):
            self.advance(other)
