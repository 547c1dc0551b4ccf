"""The SimPy interpreter of a Program: tasks begin when nothing is missing for them, rendezvous by counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import simpy

from simulator.cost.calibration import Calibration
from simulator.cost.compute import ComputeCost
from simulator.cost.jitter import Noise
from simulator.engine.clock import after
from simulator.engine.fold import Folded, MediumClass, RankClass
from simulator.engine.messages import MessageCost
from simulator.engine.network import Network
from simulator.engine.record import Log, Pace, RankRecord, Spans
from simulator.engine.script import Script, TaskCost
from simulator.engine.system import System
from simulator.program.instructions import STREAM_OF, Instruction, Lane, Stream
from simulator.program.merging import Merging
from simulator.program.program import Program
from simulator.results.timeline import Timeline

INFINITE = float("inf")

TP_LANE: Lane = (Stream.TP, -1)
"""Where tensor-parallel collectives run."""


class _Rank:
    """State of one rank class; what every task needs is in lists by the number of the task, or of its shape."""

    __slots__ = (
        "fold",
        "followers",
        "host",
        "hosts",
        "log",
        "media",
        "messages",
        "missing",
        "script",
        "segments",
        "shapes",
    )

    def __init__(self, fold: RankClass, script: Script, cost: TaskCost) -> None:
        self.fold = fold
        self.script = script
        self.shapes = script.shapes
        self.followers = script.followers
        self.missing = list(script.missing)
        self.segments = cost.segments
        self.hosts = cost.hosts
        self.host = 0.0
        self.media = [fold.media.get(lane) for lane in script.meeting_lanes]
        self.messages: dict[int, _Message] = {}
        self.log: Log = []


_Message = tuple[tuple[float, Mapping[int, float], float], ...]
"""Transfers in order: seconds before the bytes flow, what their flow loads, how many there are."""

_Present = Sequence[tuple[_Rank, int, float]]
"""Who takes part in a message: rank, task, when it was ready."""


class Walk:
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
        self.launches = any(cost.launches for cost in costs)
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
        if self.noise or rank.weights or self.launches:
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
        if self.launches:
            # The host runs ahead of the device, but where it waits for it.
            seconds, waits = rank.hosts[shape]
            rank.host = (max(rank.host, now) if waits else rank.host) + seconds
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
            # A device is not done before its host has launched the last kernel.
            after(self.env, max(seconds, rank.host - now) if self.launches else seconds, finish)

    def compute_together(self, index: int, present: _Present, now: float) -> None:
        """Run a task with collectives inside: when its first one begins is known as soon as all participants came."""
        rank, task, _ = present[0]
        shape = rank.shapes[task]
        pace = self.paces.get((index, shape))
        if pace is None:
            pace = self.paces[index, shape] = self.pace(self.folded.media[index], present, task)
        own = rank.segments[shape]
        if all(each.segments[shape] is own for each, _, _ in present):
            # On equal devices the last one to come is the last one to have computed.
            start = now + own[0]
            after(self.env, start + pace[-1][1] + own[-1] - now, partial(self.finish, present, start, pace))
            return
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
