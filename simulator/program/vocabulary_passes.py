"""Passes over the vocabulary in a pipeline's schedule, where all ranks share it.

Yeung et al. 2024, arXiv 2411.05288, section 5: one pass makes the logits (S), another one everything behind them (T),
on all ranks at about the same time. Between the last stage's forward and S, between S and T, and between T and the last
stage's backward ranks meet. So that nobody waits for that, backward lags by two micro-batches more: activations of
p + 2 micro-batches in place of 1F1B's p.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator

from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules import Schedule

SHARED = -1
"""Stands for the rank of a stage that all ranks of a pipeline share."""

LAG = 2
"""Micro-batches by which backward lags: one for each of the two passes."""

TICKS = {Kind.F: 1, Kind.I: 1, Kind.W: 1, Kind.B: 2}
"""Time of each action; passes over the vocabulary are put between, as if they took none."""

LOGITS, LOSS = 3, 2
"""Ticks for each stage of a rank from the last forward to S, and on to T: a turn of one F and one B, and its B.

So ranks compute something else while they meet: behind S of a micro-batch comes B of the one before, behind T the
next F.
"""


def with_vocabulary(schedule: Schedule, num_microbatches: int) -> Schedule:
    """Return a schedule whose stages stand between a shared one, the embedding, and two, the logits and the loss.

    Every rank has the passes over the vocabulary in the same order, for they meet in them; each runs one when it is
    free next after it could begin. The embedding of a micro-batch runs while its forerunner begins.
    """
    stages = len(schedule.placement)
    per_rank = stages // len(schedule.orders)
    orders = [
        [action._replace(stage=action.stage + 1) for action in _lagging(order, LAG * per_rank)]
        for order in schedule.orders
    ]
    run = _Run(orders, stages, per_rank, num_microbatches)
    return Schedule((SHARED, *schedule.placement, SHARED, SHARED), run.orders())


def _lagging(order: Iterable[Instruction], more: int) -> Iterator[Instruction]:
    """Yield a rank's actions, backwards behind so many forwards more than before."""
    actions = tuple(order)
    forwards = [action for action in actions if action.kind is Kind.F]
    passed = done = 0
    for action in actions:
        if action.kind is Kind.F:
            passed += 1
            continue
        yield from forwards[done : passed + more]
        done = max(done, min(passed + more, len(forwards)))
        yield action


class _Run:
    """Ranks that run their orders by the clock, and passes over the vocabulary as they become due."""

    def __init__(self, orders: list[list[Instruction]], stages: int, per_rank: int, num_microbatches: int) -> None:
        self.left = [list(reversed(order)) for order in orders]
        self.stages, self.per_rank = stages, per_rank
        self.passes = [self._embedding(0)]
        self.due = [0]
        self.begun = [0] * len(orders)
        self.result: list[list[Instruction]] = [[] for _ in orders]
        self.free = [0] * len(orders)
        self.done: dict[Instruction, int] = {}
        self.num_microbatches = num_microbatches

    def _embedding(self, microbatch: int) -> tuple[Instruction, ...]:
        return (Instruction(Kind.F, 0, microbatch),)

    def orders(self) -> tuple[tuple[Instruction, ...], ...]:
        """Run to the end."""
        now = 0
        while any(self.left) or any(begun < len(self.passes) for begun in self.begun):
            while sum(self._act(rank, now) for rank in range(len(self.left))):
                pass
            now += 1
        return tuple(map(tuple, self.result))

    def _act(self, rank: int, now: int) -> bool:
        """Let a free rank run the pass that is due, or else its next action if that is ready; return whether it did."""
        if self.free[rank] > now:
            return False
        number = self.begun[rank]
        if number < len(self.passes) and self.due[number] <= now:
            self.result[rank] += self.passes[number]
            self.begun[rank] += 1
            if min(self.begun) == number + 1:
                self._met(self.passes[number], now)
            return True
        if not self.left[rank] or not self._is_ready(self.left[rank][-1], now):
            return False
        action = self.left[rank].pop()
        self.result[rank].append(action)
        self.free[rank] = self.done[action] = now + TICKS[action.kind]
        self._follow(action, now)
        return True

    def _is_ready(self, action: Instruction, now: int) -> bool:
        kind, stage, microbatch, _ = action
        if kind is Kind.W:
            return True
        if kind is Kind.F:
            return self.done.get(Instruction(Kind.F, stage - 1, microbatch), now + 1) <= now
        before = (Instruction(each, stage + 1, microbatch) for each in (Kind.B, Kind.I))
        return any(self.done.get(each, now + 1) <= now for each in before)

    def _met(self, passes: tuple[Instruction, ...], now: int) -> None:
        """Note that all ranks have run a pass; what of it others wait for is there."""
        self.done.update(dict.fromkeys(passes, now))
        kind, stage, microbatch, _ = passes[0]
        if (kind, stage) == (Kind.F, self.stages + 1):
            loss = self.stages + 2
            works = (Kind.F, loss), (Kind.B, loss), (Kind.B, self.stages + 1)
            rest = tuple(Instruction(each, place, microbatch) for each, place in works)
            self._add(rest, now + LOSS * self.per_rank)

    def _follow(self, action: Instruction, now: int) -> None:
        """Add the pass that an action makes due."""
        kind, stage, microbatch, _ = action
        end = now + TICKS[kind]
        if kind is Kind.F and stage == 1 and microbatch + 1 < self.num_microbatches:
            self._add(self._embedding(microbatch + 1), now)
        if kind is Kind.F and stage == self.stages:
            self._add((Instruction(Kind.F, stage + 1, microbatch),), end + LOGITS * self.per_rank)
        if kind in (Kind.B, Kind.I) and stage == 1:
            self._add((Instruction(Kind.B, 0, microbatch),), end)

    def _add(self, passes: tuple[Instruction, ...], due: int) -> None:
        """Put a pass behind those that are due no later; none of them has begun that is due after now."""
        place = bisect(self.due, due)
        self.passes.insert(place, passes)
        self.due.insert(place, due)
