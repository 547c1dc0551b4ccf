"""A list scheduler for one stage per rank: the order that comes about when a free rank takes what is best and ready."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules.base import Schedule, loop_placement

ROUNDING = 1e-9
"""Of a micro-batch: what sums of shares may be off by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a rank decides by, besides: I before F before W.

    Parameters
    ----------
    ticks
        Time of F, I and W. Whole numbers, so that actions which end together are seen together.
    limit, weight_share
        Activations that a rank may hold, in those of a micro-batch, and what is left of them once its I has run.
    hop
        How many more micro-batches may lack their I per hop to the last rank.
    patience
        A rank leaves a W for later if something better arrives within this time.
    """

    ticks: dict[Kind, int]
    limit: float
    weight_share: float
    hop: float
    patience: int


def greedy(num_ranks: int, num_microbatches: int, rules: Rules) -> Schedule:
    """Return the schedule that the rules lead to; sends take no time."""
    return Schedule(loop_placement(num_ranks), _Run(num_ranks, num_microbatches, rules).orders())


class _Run:
    """What each rank could do next, and what it does now. All kinds go by micro-batch, so counting is enough."""

    def __init__(self, num_ranks: int, num_microbatches: int, rules: Rules) -> None:
        self.rules, self.last = rules, num_ranks - 1
        self.ready = {kind: [0] * num_ranks for kind in (Kind.I, Kind.F, Kind.W)}
        self.ready[Kind.F][0] = num_microbatches
        self.begun = {kind: [0] * num_ranks for kind in self.ready}
        self.held = [0.0] * num_ranks
        self.may_lack = [1 + int(rules.hop * (self.last - rank)) for rank in range(num_ranks)]
        self.running: list[tuple[Kind, int] | None] = [None] * num_ranks
        self.result: list[list[Instruction]] = [[] for _ in range(num_ranks)]
        self.ends: list[tuple[int, int]] = []

    def orders(self) -> tuple[tuple[Instruction, ...], ...]:
        """Run to the end."""
        now, changed = 0, {0}
        while changed:
            for rank in sorted(changed):
                if self.running[rank] is None:
                    self.begin(rank, now)
            changed = set()
            now = self.ends[0][0] if self.ends else now
            while self.ends and self.ends[0][0] == now:
                changed |= self.end(heappop(self.ends)[1])
        return tuple(map(tuple, self.result))

    def begin(self, rank: int, now: int) -> None:
        """Let a free rank take what is best and ready."""
        if self.ready[Kind.I][rank]:
            kind = Kind.I
        elif self.ready[Kind.F][rank] and self.has_room(rank):
            kind = Kind.F
        elif self.ready[Kind.W][rank] and not self.better_comes(rank, now + self.rules.patience):
            kind = Kind.W
        else:
            return
        self.ready[kind][rank] -= 1
        self.held[rank] += kind is Kind.F
        self.result[rank].append(Instruction(kind, rank, self.begun[kind][rank]))
        self.begun[kind][rank] += 1
        end = now + self.rules.ticks[kind]
        self.running[rank] = kind, end
        heappush(self.ends, (end, rank))

    def has_room(self, rank: int) -> bool:
        """Whether a rank may hold another micro-batch."""
        lacking = self.begun[Kind.F][rank] - self.begun[Kind.I][rank]
        return self.held[rank] + 1 <= self.rules.limit + ROUNDING and lacking < self.may_lack[rank]

    def better_comes(self, rank: int, until: int) -> bool:
        """Whether a neighbour brings an I or an F before a moment."""
        if rank < self.last:
            match self.running[rank + 1]:
                case Kind.I, end if end < until:
                    return True
        if rank > 0:
            match self.running[rank - 1]:
                case Kind.F, end if end < until:
                    return self.has_room(rank)
        return False

    def end(self, rank: int) -> set[int]:
        """End what a rank does; return the ranks that have more to choose from now."""
        running, self.running[rank] = self.running[rank], None
        assert running is not None
        match running[0]:
            case Kind.F if rank < self.last:
                self.ready[Kind.F][rank + 1] += 1
                return {rank, rank + 1}
            case Kind.F:
                self.ready[Kind.I][rank] += 1
            case Kind.I:
                self.ready[Kind.W][rank] += 1
                self.held[rank] -= 1 - self.rules.weight_share
                if rank > 0:
                    self.ready[Kind.I][rank - 1] += 1
                    return {rank, rank - 1}
            case Kind.W:
                self.held[rank] -= self.rules.weight_share
        return {rank}


def cost(schedule: Schedule, ticks: dict[Kind, int]) -> tuple[int, int]:
    """Return when the last rank is done, and the most that a rank idles between its first and its last action."""
    ranks = range(len(schedule.orders))
    left = [iter(order) for order in schedule.orders]
    heads = [next(actions, None) for actions in left]
    ends: dict[tuple[Kind, int, int], int] = {}
    clocks = [0 for _ in ranks]
    starts = [0 for _ in ranks]
    while any(heads):
        for rank in (*ranks, *reversed(ranks)):
            while action := heads[rank]:
                kind, _, microbatch, _ = action
                source = rank + {Kind.F: -1, Kind.I: +1, Kind.W: 0}[kind]
                outside = kind is Kind.W or source not in ranks
                if not outside and (kind, source, microbatch) not in ends:
                    break
                begin = max(clocks[rank], 0 if outside else ends[kind, source, microbatch])
                if kind is Kind.F and microbatch == 0:
                    starts[rank] = begin
                clocks[rank] = ends[kind, rank, microbatch] = begin + ticks[kind]
                heads[rank] = next(left[rank], None)
    work = len(schedule.orders[0]) // 3 * sum(ticks.values())
    return max(clocks), max(clock - start - work for clock, start in zip(clocks, starts, strict=True))
