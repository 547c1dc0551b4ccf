"""1F1B: backward as soon as there is one."""

from __future__ import annotations

from simulator.program.schedules.alternate import alternate
from simulator.program.schedules.base import Options, Schedule, ScheduleKind


def one_f_one_b(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule.

    Stage s runs p - 1 - s forwards to warm up, then alternates forward and backward, then drains. GPipe's bubble
    (p - 1) (F + B), but at most min(m, p - s) micro-batches in flight.
    """
    return alternate(num_ranks, num_microbatches, num_chunks=1, hop=1)


KIND = ScheduleKind(
    name="1f1b",
    build=one_f_one_b,
    description="GPipe's bubble with at most p micro-batches in flight",
    source="PipeDream-flush, arXiv 2006.09503; DAPPLE, arXiv 2007.01045",
)
