"""ZB-H2: twice the warm-up of ZB-H1 leaves no bubble between a rank's first and last action."""

from __future__ import annotations

from simulator.program.schedules.alternate import alternate
from simulator.program.schedules.base import Options, Schedule, ScheduleKind


def zb_h2(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule. Its I is the paper's B.

    Every rank holds 2 p - 1 micro-batches. Between its first and its last action a rank idles (p - 1) (F + I - 2 W),
    nothing if F = I = W; but a barrier after the step still costs (p - 1) F, because the last rank starts that late.
    """
    return alternate(num_ranks, num_microbatches, num_chunks=1, hop=2, delay=2)


KIND = ScheduleKind(
    name="zb_h2",
    build=zb_h2,
    description="no bubble inside the step if F = I = W, for twice 1F1B's memory",
    source="Qi et al. 2023, arXiv 2401.10241",
    splits_backward=True,
)
