"""ZB-H1: 1F1B whose weight gradients fill a part of the bubble, in 1F1B's memory."""

from __future__ import annotations

from simulator.program.schedules.alternate import alternate
from simulator.program.schedules.base import Options, Schedule, ScheduleKind


def zb_h1(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule. Its I is the paper's B.

    Rank r puts its weight gradients off by r input gradients, so that every rank holds as many micro-batches as rank
    0 does: min(m, p). If m >= p the bubble is (p - 1) max(F + I - W, F, I): the paper's (p - 1) (F + I - W) where
    W <= F and W <= I, a third of 1F1B's if F = I = W. Longer weight gradients undo neither the wait for the first
    forward nor that for the last input gradient.
    """
    return alternate(num_ranks, num_microbatches, num_chunks=1, hop=1, delay=1)


KIND = ScheduleKind(
    name="zb_h1",
    build=zb_h1,
    description="weight gradients fill part of 1F1B's bubble, in 1F1B's memory",
    source="Qi et al. 2023, arXiv 2401.10241",
)
