"""The SimPy interpreter of a Program: tasks begin when nothing is missing for them, rendezvous by counting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import simpy

from simulator.cost.jitter import Noise
from simulator.engine.clock import after, at
from simulator.engine.course import Course, Pace, Work, together
from simulator.engine.fold import RankClass
from simulator.engine.network import Network
from simulator.engine.prices import Kind, Message, Prices
from simulator.engine.record import Columns, Log, RankRecord, Spans
from simulator.engine.script import Script, TaskCost
from simulator.program.merging import Merging
from simulator.results.timeline import Timeline


class _Rank:
    """State of one rank class; what every task needs is in lists by the number of the task, or of its shape."""

    __slots__ = (
        "cost",
        "fold",
        "followers",
        "host",
        "is_plain",
        "leads",
        "log",
        "media",
        "missing",
        "script",
        "sent",
        "shapes",
        "works",
    )

    def __init__(
        self, fold: RankClass, script: Script, cost: TaskCost, sent: dict[int, Message], *, is_plain: bool
    ) -> None:
        self.fold = fold
        self.script = script
        self.shapes = script.shapes
        self.followers = script.followers
        self.missing = list(script.missing)
        self.cost = cost
        self.works = cost.works
        self.leads = cost.leads
        self.sent = sent
        # Computations take as long as they take: no processor is shared, no host launches, nothing varies.
        self.is_plain = is_plain
        self.host = 0.0
        self.media = [fold.media.get(lane) for lane in script.meeting_lanes]
        self.log: Log = []


_Present = Sequence[tuple[_Rank, int, float]]
"""Who takes part in a message: rank, task, when it was ready."""


class Walk:
    """Some simulated steps in a row; the last one is reported.

    Parameters
    ----------
    prices
        What is simulated, and what it costs.
    noise
        Varies compute times.
    steps
        How many.
    """

    def __init__(self, prices: Prices, noise: Noise | None, steps: int) -> None:
        self.prices = prices
        self.steps = steps
        self.env = simpy.Environment()
        self.network = Network(self.env, prices.folded.capacities)
        self.noise = noise
        # Both ends of a medium have its messages in the same order (verify() saw to it), so there is one at a time.
        self.present: list[list[tuple[_Rank, int, float]]] = [[] for _ in prices.folded.media]
        self.participants = [medium.participants for medium in prices.folded.media]
        scripts: dict[tuple[int, Merging], Script] = {}
        self.ranks: list[_Rank] = []
        self.records: list[RankRecord] = []
        for fold, key, cost, sent in zip(prices.folded.ranks, prices.keys, prices.tasks, prices.sent, strict=True):
            if key not in scripts:
                scripts[key] = Script(prices.program, *key, steps)
            is_plain = not (fold.weights or noise or prices.launches)
            self.ranks.append(_Rank(fold, scripts[key], cost, sent, is_plain=is_plain))
            self.records.append(RankRecord(fold.representative, scripts[key], self.ranks[-1].log))

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
            columns=Columns(self.prices.program, self.records, self.steps - 1),
        )

    def begin(self, rank: _Rank, task: int, now: float) -> None:
        """Start a task for which nothing is missing: at once, or when the last one who takes part in it has come."""
        shape = rank.shapes[task]
        index = rank.media[shape]
        if index is None:
            if rank.is_plain:
                lead = rank.leads[shape]
                at(self.env, now + lead.end, partial(self.finish, ((rank, task, now),), now, lead.pace))
            else:
                self.compute(rank, task, now)
            return
        present = self.present[index]
        present.append((rank, task, now))
        if len(present) == self.participants[index]:
            self.present[index] = []
            if not rank.works[shape]:
                self.communicate(index, present, now)
            elif self.prices.uniform[index]:
                self.compute_alike(index, present, now)
            else:
                self.compute_together(index, present, now)

    def lead(self, rank: _Rank, shape: int, issued: float) -> Course:
        """Return what a rank does by itself in a task; times count from when it is issued."""
        return rank.cost.launched(shape, rank.host - issued) if self.prices.launches else rank.leads[shape]

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

    def compute_alike(self, index: int, present: _Present, now: float) -> None:
        """Run a task with collectives inside that takes all ranks equal times from when the last one has come."""
        rank, task, _ = present[-1]
        shape = rank.shapes[task]
        start = now + rank.leads[shape].end
        key = (index, shape, ())
        if key not in self.prices.courses:
            self.prices.courses[key] = self.courses(index, rank, task, [(rank.works[shape], rank.leads[shape])])
        (course,) = self.prices.courses[key]
        at(self.env, start + course.end, partial(self.finish, present, start, course.pace))

    def compute_together(self, index: int, present: _Present, now: float) -> None:
        """Run a task with collectives inside: when its first one begins is known as soon as all participants came."""
        first, task, _ = present[0]
        shape = first.shapes[task]
        leads = [self.lead(rank, shape, issued) for rank, _, issued in present]
        start = max([issued + lead.end for lead, (_, _, issued) in zip(leads, present, strict=True)])
        members: dict[Kind, list[tuple[_Rank, int, float]]] = {}
        for lead, member in zip(leads, present, strict=True):
            host = member[2] + lead.host - start if self.prices.launches else 0.0
            members.setdefault((id(lead), host), []).append(member)
        key = (index, shape, tuple(members))
        if key not in self.prices.courses:
            own = {id(lead): (rank, lead) for lead, (rank, _, _) in zip(leads, present, strict=True)}
            begun = [(own[lead][0].works[shape], own[lead][1]._replace(host=host)) for lead, host in members]
            self.prices.courses[key] = self.courses(index, first, task, begun)
        for course, those in zip(self.prices.courses[key], members.values(), strict=True):
            for rank, _, _ in those:
                rank.host = start + course.host
            after(self.env, start + course.end - now, partial(self.finish, those, start, course.pace))

    def courses(
        self, index: int, rank: _Rank, task: int, begun: Sequence[tuple[Sequence[Work], Course]]
    ) -> list[Course]:
        """Return what ranks do that meet in a task over a medium."""
        durations = self.prices.durations(self.prices.folded.media[index], rank.script.of(task))
        return together(begun, durations)

    def communicate(self, index: int, present: _Present, now: float) -> None:
        """Send the message for which all have come."""
        rank, task, _ = present[-1]
        shape = rank.shapes[task]
        message = rank.sent.get(shape)
        if message is None:
            medium = self.prices.folded.media[index]
            message = rank.sent[shape] = self.prices.message(medium, rank.script.of(task)[0])
        self.carry(message, 0, partial(self.finish, present, now, ()))

    def carry(self, message: Message, number: int, finish: partial[None], _: object = None) -> None:
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
