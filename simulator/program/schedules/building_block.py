"""Schedules that repeat one building block: how long a micro-batch lives on a rank is chosen, and memory follows."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import count

from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules.base import Schedule, v_placement

PERIOD = 6
"""Slots of a block: F, I and W of a rank's two stages."""

KINDS = (Kind.F, Kind.F, Kind.I, Kind.I)
"""The passes of a block but for W, in the order in which a micro-batch meets them on a rank: down, up, down, up."""

Block = Sequence[tuple[int, int, int, int]]
"""For each rank the slot of each pass of micro-batch 0."""


def repeat(block: Block, num_microbatches: int, limit: int) -> Schedule:
    """Return the order that comes about when a V of two stages per rank repeats a block.

    A block begins every ``PERIOD`` slots. As in the paper, it is then squeezed: passes keep the block's order, but run
    as soon as they can; among input gradients the first that is ready goes before its turn, and weight gradients fill
    the slots that are left.

    Parameters
    ----------
    block
        Slots; those of a rank differ modulo ``PERIOD``.
    num_microbatches
        How often it repeats.
    limit
        Micro-batches whose activations a rank may hold.
    """
    run = _Run(block, num_microbatches, limit)
    for slot in count():
        for rank in range(len(block)):
            run.take(rank, slot)
        if all(len(order) == PERIOD * num_microbatches for order in run.orders):
            break
    return Schedule(v_placement(len(block)), tuple(map(tuple, run.orders)))


class _Run:
    """What each rank has run, slot by slot.

    Attributes
    ----------
    orders
        For each rank its actions so far.
    """

    def __init__(self, block: Block, num_microbatches: int, limit: int) -> None:
        self.num_microbatches, self.limit = num_microbatches, 2 * limit
        self.orders: list[list[Instruction]] = [[] for _ in block]
        # Slots of the passes that come next, and those in which the passes before them ran.
        self._turns = [{slot: number for number, slot in enumerate(slots)} for slots in block]
        self._ran: list[list[list[int]]] = [[[] for _ in KINDS] for _ in block]
        self._held = [0] * len(block)
        self._owed: list[deque[Instruction]] = [deque() for _ in block]

    def take(self, rank: int, slot: int) -> None:
        """Let a rank run what is best and ready in a slot, or nothing."""
        turn = self._choice(rank, slot)
        if turn is not None:
            self._run(rank, turn, slot)
        elif self._owed[rank]:
            self.orders[rank].append(self._owed[rank].popleft())
            self._held[rank] -= 1

    def _choice(self, rank: int, slot: int) -> int | None:
        """Return the slot of the pass whose turn it is if it is ready; for an input gradient also of another one."""
        turns = self._turns[rank]
        first = min(turns, default=None)
        if first is None:
            return None
        if KINDS[turns[first]] is Kind.F:
            fits = self._held[rank] < self.limit
            return first if fits and self._is_ready(rank, turns[first], slot) else None
        gradients = sorted(turn for turn, number in turns.items() if KINDS[number] is Kind.I)
        return next((turn for turn in gradients if self._is_ready(rank, turns[turn], slot)), None)

    def _is_ready(self, rank: int, number: int, slot: int) -> bool:
        """Return whether the pass before, on the way of a micro-batch down and up the ranks twice, is done."""
        before = rank + (1 if number % 2 else -1)
        if before == -1 and number == 0:
            return True
        done = self._ran[before][number] if 0 <= before < len(self._ran) else self._ran[rank][number - 1]
        index = len(self._ran[rank][number])
        return index < len(done) and done[index] < slot

    def _run(self, rank: int, turn: int, slot: int) -> None:
        number = self._turns[rank].pop(turn)
        ran = self._ran[rank][number]
        stage = rank if number in (0, 3) else 2 * len(self._ran) - 1 - rank
        action = Instruction(KINDS[number], stage, len(ran))
        self.orders[rank].append(action)
        ran.append(slot)
        if len(ran) < self.num_microbatches:
            self._turns[rank][turn + PERIOD] = number
        if action.kind is Kind.F:
            self._held[rank] += 1
        else:
            self._owed[rank].append(action._replace(kind=Kind.W))
