"""The SimPy interpreter of a Program: tasks begin when nothing is missing for them, rendezvous by counting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import simpy
from numpy.typing import NDArray

from simulator.collector import paused_collector
from simulator.cost.calibration import Calibration
from simulator.cost.compute import ComputeCost
from simulator.cost.jitter import Noise
from simulator.engine.clock import after
from simulator.engine.fold import Folded, MediumClass, RankClass, fold
from simulator.engine.messages import MessageCost
from simulator.engine.network import Network
from simulator.engine.record import Log, Memory, Pace, RankRecord, Spans
from simulator.engine.script import Script, TaskCost
from simulator.engine.system import System, build_system
from simulator.program.instructions import STREAM_OF, Instruction, Lane, Stream
from simulator.program.merging import Merging
from simulator.program.program import Program
from simulator.results.timeline import Timeline
from simulator.topology import Device, Topology

WARMUP_STEPS, MAX_STEPS = 3, 8
"""How many steps in a row are simulated at least, and at most, if they are not apart."""

INFINITE = float("inf")

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
    system = kept_system(program, topology)
    costs, devices = _priced_devices(program, topology, calibration)
    if folding and not noise:
        folded = program.keep(("folded", id(topology)), lambda: fold(system, _labels(program, costs, devices)))
    else:
        folded = fold(system, _labels(program, costs, devices), enabled=False)
    prices = [costs[devices[rank_class.representative]] for rank_class in folded.ranks]

    def run(steps: int) -> Timeline:
        return _Run(program, system, folded, prices, calibration, noise, steps).timeline()

    timeline = _one_step(program, run)
    return replace(timeline, memory=Memory(program, timeline)), costs[devices[0]]


def kept_system(program: Program, topology: Topology) -> System:
    """Return the system that a program and a topology make, once for both."""
    # The topology is kept too, so that no other one can come to have its id.
    _, system = program.keep(("system", id(topology)), lambda: (topology, build_system(program, topology)))
    return system


def _labels(program: Program, costs: Sequence[ComputeCost], devices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for what each rank runs and on what."""
    return program.plan.mesh.along("pp") * len(costs) + devices


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


class _Rank:
    """State of one rank class; what every task needs is in lists by the number of the task, or of its shape."""

    __slots__ = ("fold", "followers", "log", "media", "messages", "missing", "script", "segments", "shapes")

    def __init__(self, fold: RankClass, script: Script, cost: TaskCost) -> None:
        self.fold = fold
        self.script = script
        self.shapes = script.shapes
        self.followers = script.followers
        self.missing = list(script.missing)
        self.segments = cost.segments
        self.media = [fold.media.get(lane) for lane in script.meeting_lanes]
        self.messages: dict[int, _Message] = {}
        self.log: Log = []


_Message = tuple[tuple[float, Mapping[int, float], float], ...]
"""Transfers in order: seconds before the bytes flow, what their flow loads, how many there are."""

_Present = Sequence[tuple[_Rank, int, float]]
"""Who takes part in a message: rank, task, when it was ready."""


class _Run:
    """Some simulated steps in a row; the last one is reported."""

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
        self.steps = steps
        self.env = simpy.Environment()
        self.network = Network(self.env, list(folded.capacities))
        self.messages = MessageCost(program, system, self.network, calibration)
        self.noise = noise
        # Both ends of a medium have its messages in the same order (verify() saw to it), so there is one at a time.
        self.present: list[list[tuple[_Rank, int, float]]] = [[] for _ in folded.media]
        self.participants = [medium.participants for medium in folded.media]
        self.paces: dict[tuple[int, int], Pace] = {}
        scripts: dict[tuple[int, Merging], Script] = {}
        prices: dict[tuple[int, Merging, int], TaskCost] = {}
        self.ranks: list[_Rank] = []
        self.records: list[RankRecord] = []
        for rank_class, cost in zip(folded.ranks, costs, strict=True):
            coordinate = program.plan.mesh.coordinate(rank_class.representative, "pp")
            key = (coordinate, self.merging(rank_class))
            if key not in scripts:
                scripts[key] = Script(program, *key, steps)
            if (*key, id(cost)) not in prices:
                prices[*key, id(cost)] = TaskCost(scripts[key], cost)
            price = prices[*key, id(cost)]
            self.ranks.append(_Rank(rank_class, scripts[key], price))
            self.records.append(RankRecord(rank_class.representative, scripts[key], price, self.ranks[-1].log))

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
            for task in rank.script.first:
                self.begin(rank, task, 0.0)
        self.env.run()
        for rank in self.ranks:
            name = rank.fold.representative
            assert not any(rank.missing), f"rank {name} did not finish; verify() should have found out"
        ends = [max(record.end(step) for record in self.records) for step in range(self.steps)]
        return Timeline(
            source="predicted",
            begin=ends[-2] if len(ends) > 1 else 0.0,
            end=ends[-1],
            spans=Spans(self.records, self.steps - 1),
            ranks={rank.fold.representative: rank.fold.members for rank in self.ranks},
        )

    def begin(self, rank: _Rank, task: int, now: float) -> None:
        """Start a task for which nothing is missing: at once, or when the last one who takes part in it has come."""
        shape = rank.shapes[task]
        index = rank.media[shape]
        if index is None:
            self.compute(rank, task, now)
            return
        present = self.present[index]
        present.append((rank, task, now))
        if len(present) < self.participants[index]:
            return
        self.present[index] = []
        if rank.segments[shape]:
            self.compute_together(index, present, now)
        else:
            self.communicate(index, present, now)

    def compute(self, rank: _Rank, task: int, now: float) -> None:
        """Occupy the device, or a share of the processor."""
        (seconds,) = rank.segments[rank.shapes[task]]
        if self.noise:
            seconds *= self.noise.factor()
        own, finish = rank.fold, partial(self.finish, ((rank, task, now),), now, ())
        if own.weights and seconds:
            # One thread is never faster than one core.
            self.network.start(own.weights, seconds * own.speed, own.speed, finish)
        else:
            after(self.env, seconds, finish)

    def compute_together(self, index: int, present: _Present, now: float) -> None:
        """Run a task with collectives inside: when its first one begins is known as soon as all participants came."""
        rank, task, _ = present[0]
        shape = rank.shapes[task]
        pace = self.paces.get((index, shape))
        if pace is None:
            pace = self.paces[index, shape] = self.pace(self.folded.media[index], present, task)
        start = max([issued + each.segments[shape][0] for each, _, issued in present])
        leaving: dict[float, list[tuple[_Rank, int, float]]] = {}
        for member in present:
            leaving.setdefault(start + pace[-1][1] + member[0].segments[shape][-1], []).append(member)
        for end, members in leaving.items():
            after(self.env, end - now, partial(self.finish, members, start, pace))

    def pace(self, medium: MediumClass, present: _Present, task: int) -> Pace:
        """Return when the collectives inside a task run: each when the slowest participant has computed."""
        script = present[0][0].script
        collectives = [each for each in script.of(task) if STREAM_OF[each.kind] is Stream.TP]
        between = zip(*(rank.segments[rank.shapes[task]][1:-1] for rank, _, _ in present), strict=True)
        begin, pace = 0.0, []
        for instruction, slowest in zip(collectives, (*map(max, between), 0.0), strict=True):
            end = begin + self.messages.seconds(medium, instruction)
            pace.append((begin, end))
            begin = end + slowest
        return tuple(pace)

    def communicate(self, index: int, present: _Present, now: float) -> None:
        """Send the message for which all have come."""
        rank, task, _ = present[-1]
        shape = rank.shapes[task]
        if shape not in rank.messages:
            rank.messages[shape] = self.message(self.folded.media[index], rank.script.of(task)[0])
        self.carry(rank.messages[shape], 0, partial(self.finish, present, now, ()))

    def message(self, medium: MediumClass, instruction: Instruction) -> _Message:
        """Return what a message does; where nobody else is on its way, time passes and that is all."""
        if medium.private:
            return ((self.messages.seconds(medium, instruction), {}, 0.0),)
        transfers = self.messages.transfers(medium.representative, instruction)
        return tuple((each.latency, medium.legs[each.leg], each.size) for each in transfers)

    def carry(self, message: _Message, number: int, finish: partial[None], _: object = None) -> None:
        """Let the latency of a transfer pass, then its bytes flow; then the transfer after it."""
        latency, weights, size = message[number]
        last = number + 1 == len(message)
        following = finish if last else partial(self.carry, message, number + 1, finish)
        if size:
            after(self.env, latency, partial(self.network.start, weights, size, INFINITE, following))
        else:
            after(self.env, latency, following)

    def finish(self, present: _Present, start: float, pace: Pace, _: object = None) -> None:
        """Record a task of all who took part in it, and let those begin that waited for it."""
        now = self.env.now
        for rank, task, issued in present:
            rank.log += (task, issued, start, now, pace)
            missing = rank.missing
            for follower in rank.followers[task]:
                missing[follower] = left = missing[follower] - 1
                if not left:
                    self.begin(rank, follower, now)
