"""The SimPy interpreter of a Program: one callback walker a lane, rendezvous by counting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import simpy
from numpy.typing import NDArray

from simulator.collector import paused_collector
from simulator.cost.calibration import Calibration
from simulator.cost.collectives import Transfer
from simulator.cost.compute import ComputeCost
from simulator.cost.jitter import Noise
from simulator.engine.clock import after
from simulator.engine.fold import Folded, MediumClass, RankClass, fold
from simulator.engine.messages import MessageCost
from simulator.engine.network import Network
from simulator.engine.record import Memory, Pace, Record, Spans
from simulator.engine.script import Script, TaskCost
from simulator.engine.system import System, build_system
from simulator.program.instructions import STREAM_OF, Lane, Stream
from simulator.program.program import Program
from simulator.program.tasks import Merging
from simulator.results.timeline import Timeline
from simulator.topology import Device, Topology

WARMUP_STEPS, MAX_STEPS = 3, 8
"""How many steps in a row are simulated at least, and at most, if they are not apart."""

TP_LANE: Lane = (Stream.TP, -1)
"""Where tensor-parallel collectives run."""


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
    costs, devices = _priced_devices(program, topology, calibration)
    labels = program.plan.mesh.along("pp") * len(costs) + devices
    folded = fold(system, labels, folding and not noise)
    prices = [costs[devices[rank_class.representative]] for rank_class in folded.ranks]

    def run(steps: int) -> Timeline:
        return _Run(program, system, folded, prices, calibration, noise, steps).timeline()

    timeline = _one_step(program, run)
    return replace(timeline, memory=Memory(program, timeline)), costs[devices[0]]


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


def _priced_devices(
    program: Program, topology: Topology, calibration: Calibration
) -> tuple[list[ComputeCost], NDArray[np.int64]]:
    """Return the prices on each kind of device, and for each rank which of them is its own."""
    costs: dict[tuple[str, float], ComputeCost] = {}
    known: dict[int, int] = {}
    for device in topology.devices:
        if id(device) not in known:
            cost = costs.setdefault(device_key(device), ComputeCost(program, device, calibration))
            known[id(device)] = list(costs.values()).index(cost)
    numbers = map(known.__getitem__, map(id, topology.devices))
    return list(costs.values()), np.fromiter(numbers, np.int64, topology.world_size)


def device_key(device: Device) -> tuple[str, float]:
    """Return what tells devices of one topology apart: kind and speed."""
    return (device.kind, device.speed)


class _Walker:
    """One lane of one rank class: runs its tasks in order, each when those that it needs are done."""

    __slots__ = ("head", "issued", "medium", "queue", "rank")

    def __init__(self, rank: _Rank, medium: int | None, queue: list[int]) -> None:
        self.rank = rank
        self.medium = medium
        self.queue = queue
        self.head = 0
        self.issued = 0.0


class _Rank:
    """State of one rank class."""

    __slots__ = ("cost", "done", "fold", "needs", "script", "waiting", "walkers")

    def __init__(self, fold: RankClass, script: Script, cost: TaskCost) -> None:
        self.fold = fold
        self.script = script
        self.cost = cost
        self.needs = script.needs
        self.done = bytearray(len(script.needs))
        self.waiting: dict[int, list[_Walker]] = {}
        self.walkers = [_Walker(self, fold.media.get(lane), queue) for lane, queue in script.lanes.items()]


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
        self.records: list[Record] = []
        self.ends = [0.0] * steps
        # Both ends of a medium have its messages in the same order (verify() saw to it), so there is one at a time.
        self.present: list[list[_Walker]] = [[] for _ in folded.media]
        self.paces: dict[tuple[int, int], Pace] = {}
        scripts: dict[tuple[int, Merging], Script] = {}
        prices: dict[tuple[int, Merging, int], TaskCost] = {}
        self.ranks: list[_Rank] = []
        for rank_class, cost in zip(folded.ranks, costs, strict=True):
            coordinate = program.plan.mesh.coordinate(rank_class.representative, "pp")
            key = (coordinate, self.merging(rank_class))
            if key not in scripts:
                scripts[key] = Script(program, *key, steps)
            price = prices.setdefault((*key, id(cost)), TaskCost(scripts[key], cost))
            self.ranks.append(_Rank(rank_class, scripts[key], price))

    def merging(self, rank: RankClass) -> Merging:
        """Return what may run as one because nothing else changes how long it takes."""
        if self.noise or rank.weights:
            return Merging.NOTHING
        group = rank.media.get(TP_LANE)
        constant = group is not None and self.folded.media[group].private
        return Merging.COLLECTIVES if constant else Merging.COMPUTE

    def timeline(self) -> Timeline:
        """Run to the end and return what happened."""
        for rank in self.ranks:
            for walker in rank.walkers:
                self.advance(walker)
        self.env.run()
        for rank in self.ranks:
            assert all(rank.done), f"rank {rank.fold.representative} did not finish; verify() should have found out"
        return Timeline(
            source="predicted",
            begin=self.ends[-2] if len(self.ends) > 1 else 0.0,
            end=self.ends[-1],
            spans=Spans(self.records),
            ranks={rank.fold.representative: rank.fold.members for rank in self.ranks},
        )

    def advance(self, walker: _Walker) -> None:
        """Start the next task of a lane if nothing is missing for it."""
        if walker.head == len(walker.queue):
            return
        rank = walker.rank
        task = walker.queue[walker.head]
        for need in rank.needs[task]:
            if not rank.done[need]:
                rank.waiting.setdefault(need, []).append(walker)
                return
        walker.issued = self.env.now
        if walker.medium is None:
            self.compute(walker, task)
        else:
            self.communicate(walker, walker.medium, task)

    def compute(self, walker: _Walker, task: int) -> None:
        """Occupy the device, or a share of the processor."""
        segments = walker.rank.cost.segments(task)
        if len(segments) > 1:
            self.compute_together(walker, task)
            return
        seconds = segments[0]
        if self.noise:
            seconds *= self.noise.factor()
        finish = partial(self.finish, walker, self.env.now, ())
        own = walker.rank.fold
        if own.weights and seconds:
            # One thread is never faster than one core.
            self.network.start(own.weights, seconds * own.speed, own.speed, finish)
        else:
            after(self.env, seconds, finish)

    def compute_together(self, walker: _Walker, task: int) -> None:
        """Run a task with collectives inside: when its first one begins is known as soon as all participants came."""
        index = walker.rank.fold.media[TP_LANE]
        medium, present = self.folded.media[index], self.present[index]
        present.append(walker)
        if len(present) < medium.participants:
            return
        self.present[index] = []
        key = (index, walker.rank.script.shape(task))
        if key not in self.paces:
            self.paces[key] = self.pace(medium, present, task)
        pace = self.paces[key]
        segments = [each.rank.cost.segments(task) for each in present]
        start = max(each.issued + seconds[0] for each, seconds in zip(present, segments, strict=True))
        leaving: dict[float, list[_Walker]] = {}
        for each, seconds in zip(present, segments, strict=True):
            leaving.setdefault(start + pace[-1][1] + seconds[-1], []).append(each)
        now = self.env.now
        for end, walkers in leaving.items():
            after(self.env, end - now, partial(self.arrive, walkers, start, pace))

    def pace(self, medium: MediumClass, present: list[_Walker], task: int) -> Pace:
        """Return when the collectives inside a task run: each when the slowest participant has computed."""
        script = present[0].rank.script
        collectives = [each for each in script.of(task) if STREAM_OF[each.kind] is Stream.TP]
        between = zip(*(walker.rank.cost.segments(task)[1:-1] for walker in present), strict=True)
        begin, pace = 0.0, []
        for instruction, slowest in zip(collectives, (*map(max, between), 0.0), strict=True):
            end = begin + self.messages.seconds(medium, instruction)
            pace.append((begin, end))
            begin = end + slowest
        return tuple(pace)

    def communicate(self, walker: _Walker, index: int, task: int) -> None:
        """Meet the other participants; the last one to come starts the message."""
        medium, present = self.folded.media[index], self.present[index]
        present.append(walker)
        if len(present) < medium.participants:
            return
        self.present[index] = []
        arrive = partial(self.arrive, present, self.env.now, ())
        instruction = walker.rank.script.first(task)
        if medium.private:
            after(self.env, self.messages.seconds(medium, instruction), arrive)
            return
        self.carry(medium, iter(self.messages.transfers(medium.representative, instruction)), arrive)

    def carry(self, medium: MediumClass, transfers: Iterator[Transfer], arrive: Callable[[], None]) -> None:
        """Let the next transfer's latency pass, then its bytes flow; then the one after it."""
        transfer = next(transfers, None)
        if transfer is None:
            arrive()
            return
        following = partial(self.carry, medium, transfers, arrive)
        if transfer.size:
            move = partial(self.network.start, medium.legs[transfer.leg], transfer.size, float("inf"), following)
            after(self.env, transfer.latency, lambda _: move())
        else:
            after(self.env, transfer.latency, lambda _: following())

    def arrive(self, present: list[_Walker], start: float, pace: Pace, _: object = None) -> None:
        """Finish a task for all who took part in it."""
        for walker in present:
            self.finish(walker, start, pace)

    def finish(self, walker: _Walker, start: float, pace: Pace, _: object = None) -> None:
        """Record the task and let those go on that waited for it."""
        rank = walker.rank
        task = walker.queue[walker.head]
        step, now = task // rank.script.length, self.env.now
        self.ends[step] = now
        if step == len(self.ends) - 1:
            name = rank.fold.representative
            self.records.append(Record(name, rank.script, rank.cost, task, walker.issued, start, now, pace))
        rank.done[task] = 1
        walker.head += 1
        self.advance(walker)
        for other in rank.waiting.pop(task, ()):
            self.advance(other)
