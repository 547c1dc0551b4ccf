"""ZB1P over v stages per rank: interleaved 1F1B and ZB-H1 together."""

from __future__ import annotations

from simulator.program.schedules.alternate import alternate
from simulator.program.schedules.base import Options, Schedule, ScheduleKind


def interleaved_zero_bubble(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule, torch's order where torch has one; p need not divide m.

    If m >= p the bubble is (p - 1) max(F + I - W, F, I) / v, (p - 1) (F + I - W) / v where W <= F and W <= I. Every
    rank holds p + (s - p) (v - 1) / v micro-batches, where the longest round takes s of them: p if p divides m. With
    v = 1 it is ZB-H1.
    """
    return alternate(num_ranks, num_microbatches, options.num_stages_per_rank, hop=1, delay=1)


KIND = ScheduleKind(
    name="interleaved_zero_bubble",
    build=interleaved_zero_bubble,
    description="ZB-H1 over v stages per rank: a v times smaller bubble",
    source="Qi et al. 2023, arXiv 2401.10241; torch.distributed.pipelining",
    stages_per_rank="any",
    usual_stages_per_rank=2,
)
