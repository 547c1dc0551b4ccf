"""ZB-H2: twice the warm-up of ZB-H1 leaves no bubble between a rank's first and last action."""

from __future__ import annotations

from simulator.program.schedules.alternate import alternate
from simulator.program.schedules.base import Options, Schedule, ScheduleKind


def zb_h2(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule. Its I is the paper's B.

    Every rank holds min(m, 2 p - 1) micro-batches. If m >= 2 p - 1, the rank that waits most idles
    (p - 1) max(F + I - 2 W, I - F, 0) between its first and its last action: the paper's (p - 1) (F + I - 2 W) where
    W <= F and 2 W <= F + I, nothing if F = I = W. A barrier after the step makes that (p - 1) max(F + I - 2 W, I - F,
    F), because the last rank starts (p - 1) F late.
    """
    return alternate(num_ranks, num_microbatches, num_chunks=1, hop=2, delay=2)


KIND = ScheduleKind(
    name="zb_h2",
    build=zb_h2,
    description="no bubble inside the step if F = I = W, for twice 1F1B's memory",
    source="Qi et al. 2023, arXiv 2401.10241",
)
