"""The pattern that the 1F1B family shares: warm up, alternate forward and backward, drain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules.base import Schedule, loop_placement

Turn = tuple[int, int]
"""Which of a rank's stages (its chunk), and which micro-batch."""


def alternate(num_ranks: int, num_microbatches: int, num_chunks: int, hop: int, delay: int | None = None) -> Schedule:
    """Return a schedule of the 1F1B family.

    Parameters
    ----------
    num_chunks
        Stages per rank, placed in a loop.
    hop
        Forwards that a rank warms up with beyond those of the next rank.
    delay
        Input gradients by which weight gradients lag, beyond the lag of the rank before; None keeps backwards whole.
    """
    there = rounds(num_ranks, num_microbatches, num_chunks)
    back = [(num_chunks - 1 - chunk, microbatch) for chunk, microbatch in there]
    # The first round goes through all chunks but the last before the first backward can be near.
    lead = (num_chunks - 1) * _sizes(num_ranks, num_microbatches)[0]
    orders = []
    for rank in range(num_ranks):
        stages = range(rank, num_ranks * num_chunks, num_ranks)
        forwards = actions(Kind.F, stages, there)
        backwards = actions(Kind.B if delay is None else Kind.I, stages, back)
        weights = [] if delay is None else [*[None] * (delay * rank), *actions(Kind.W, stages, back)]
        warmup = lead + hop * (num_ranks - 1 - rank)
        steps = zip_longest(forwards[warmup:], backwards, weights)
        steady = [action for step in steps for action in step if action is not None]
        orders.append((*forwards[:warmup], *steady))
    return Schedule(loop_placement(num_ranks, num_chunks), tuple(orders))


def rounds(num_ranks: int, num_microbatches: int, num_chunks: int) -> list[Turn]:
    """Return the turns of interleaved forwards.

    Micro-batches go in rounds of about p; each round visits all chunks before the next begins.
    """
    turns: list[Turn] = []
    start = 0
    for size in _sizes(num_ranks, num_microbatches):
        turns += [(chunk, start + index) for chunk in range(num_chunks) for index in range(size)]
        start += size
    return turns


def actions(kind: Kind, stages: Sequence[int], turns: Iterable[Turn]) -> list[Instruction]:
    """Return the action of each turn; ``stages`` are a rank's stages by chunk."""
    return [Instruction(kind, stages[chunk], microbatch) for chunk, microbatch in turns]


def _sizes(num_ranks: int, num_microbatches: int) -> list[int]:
    """Return the micro-batches of each round: torch's where they come out even, else the first ones one larger."""
    number = max(1, num_microbatches // num_ranks)
    size, longer = divmod(num_microbatches, number)
    return [size + 1] * longer + [size] * (number - longer)
