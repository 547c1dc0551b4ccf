"""The SimPy interpreter of a Program: tasks begin when nothing is missing for them, rendezvous by counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import simpy

from simulator.cost.calibration import Calibration
from simulator.cost.compute import ComputeCost
from simulator.cost.jitter import Noise
from simulator.engine.clock import after
from simulator.engine.course import Course, Pace, together
from simulator.engine.fold import Folded, MediumClass, RankClass
from simulator.engine.messages import MessageCost
from simulator.engine.network import Network
from simulator.engine.record import Columns, Log, RankRecord, Spans
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
        "cost",
        "fold",
        "followers",
        "host",
        "log",
        "media",
        "messages",
        "missing",
        "script",
        "shapes",
        "works",
    )

    def __init__(self, fold: RankClass, script: Script, cost: TaskCost) -> None:
        self.fold = fold
        self.script = script
        self.shapes = script.shapes
        self.followers = script.followers
        self.missing = list(script.missing)
        self.cost = cost
        self.works = cost.works
        self.host = 0.0
        self.media = [fold.media.get(lane) for lane in script.meeting_lanes]
        self.messages: dict[int, _Message] = {}
        self.log: Log = []


_Message = tuple[tuple[float, Mapping[int, float], float, float], ...]
"""Transfers in order: seconds before bytes flow, what their flow loads, how many there are, their rate while alone."""

_Present = Sequence[tuple[_Rank, int, float]]
"""Who takes part in a message: rank, task, when it was ready."""

_Kind = tuple[int, float]
"""What tells ranks apart that meet in a task: what they did before, and where their hosts are then."""


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
        self.program = program
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
        self.courses: dict[tuple[int, int, tuple[_Kind, ...]], list[Course]] = {}
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
            self.ranks.append(_Rank(rank_class, scripts[key], prices[*key, id(cost)]))
            self.records.append(RankRecord(rank_class.representative, scripts[key], self.ranks[-1].log))

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
            columns=Columns(self.program, self.records, self.steps - 1),
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
        if len(present) == self.participants[index]:
            self.present[index] = []
            meet = self.compute_together if rank.works[shape] else self.communicate
            meet(index, present, now)

    def lead(self, rank: _Rank, shape: int, issued: float) -> Course:
        """Return what a rank does by itself in a task; times count from when it is issued."""
        return rank.cost.launched(shape, rank.host - issued) if self.launches else rank.cost.leads[shape]

    def compute(self, rank: _Rank, task: int, now: float) -> None:
        """Occupy the device, or a share of the processor."""
        shape, own = rank.shapes[task], rank.fold
        lead = self.lead(rank, shape, now)
        rank.host = now + lead.host
        finish = partial(self.finish, ((rank, task, now),), now, lead.pace)
        if not (own.weights or self.noise):
            after(self.env, lead.end, finish)
            return
        seconds = rank.works[shape][0].seconds * (self.noise.factor() if self.noise else 1.0)
        if own.weights and seconds:
            # One thread is never faster than one core.
            self.network.start(own.weights, seconds * own.speed, self.network.alone(own.weights, own.speed), finish)
        else:
            after(self.env, max(seconds, lead.host), finish)

    def compute_together(self, index: int, present: _Present, now: float) -> None:
        """Run a task with collectives inside: when its first one begins is known as soon as all participants came."""
        shape = present[0][0].shapes[present[0][1]]
        leads = [self.lead(rank, shape, issued) for rank, _, issued in present]
        start = max([issued + lead.end for lead, (_, _, issued) in zip(leads, present, strict=True)])
        members: dict[_Kind, list[tuple[_Rank, int, float]]] = {}
        for lead, member in zip(leads, present, strict=True):
            host = member[2] + lead.host - start if self.launches else 0.0
            members.setdefault((id(lead), host), []).append(member)
        key = (index, shape, tuple(members))
        if key not in self.courses:
            own = {id(lead): (rank, lead) for lead, (rank, _, _) in zip(leads, present, strict=True)}
            begun = [(own[lead][0].works[shape], own[lead][1]._replace(host=host)) for lead, host in members]
            self.courses[key] = together(begun, self.durations(self.folded.media[index], present[0]))
        for course, those in zip(self.courses[key], members.values(), strict=True):
            for rank, _, _ in those:
                rank.host = start + course.host
            after(self.env, start + course.end - now, partial(self.finish, those, start, course.pace))

    def durations(self, medium: MediumClass, member: tuple[_Rank, int, float]) -> list[float]:
        """Return the seconds of each collective inside a task."""
        rank, task, _ = member
        collectives = (each for each in rank.script.of(task) if STREAM_OF[each.kind] is Stream.TP)
        return [self.messages.seconds(medium, instruction) for instruction in collectives]

    def communicate(self, index: int, present: _Present, now: float) -> None:
        """Send the message for which all have come."""
        rank, task, _ = present[-1]
        shape = rank.shapes[task]
        message = rank.messages.get(shape)
        if message is None:
            message = rank.messages[shape] = self.message(self.folded.media[index], rank.script.of(task)[0])
        self.carry(message, 0, partial(self.finish, present, now, ()))

    def message(self, medium: MediumClass, instruction: Instruction) -> _Message:
        """Return what a message does; where nobody else is on its way, time passes and that is all."""
        if medium.private:
            return ((self.messages.seconds(medium, instruction), {}, 0.0, INFINITE),)
        transfers = self.messages.transfers(medium.representative, instruction)
        ways = [(medium.legs[each.leg], each) for each in transfers]
        return tuple((each.latency, way, each.size, self.network.alone(way, INFINITE)) for way, each in ways)

    def carry(self, message: _Message, number: int, finish: partial[None], _: object = None) -> None:
        """Let the latency of a transfer pass, then its bytes flow; then the transfer after it."""
        latency, weights, size, fastest = message[number]
        last = number + 1 == len(message)
        following = finish if last else partial(self.carry, message, number + 1, finish)
        if size:
            self.network.start(weights, size, fastest, following, latency)
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
