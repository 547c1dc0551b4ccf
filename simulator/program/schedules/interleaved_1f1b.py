"""Interleaved 1F1B: v stages per rank make the bubble v times smaller."""

from __future__ import annotations

from simulator.program.schedules.alternate import alternate
from simulator.program.schedules.base import Options, Schedule, ScheduleKind


def interleaved_1f1b(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule, torch's order where torch has one; p need not divide m.

    Bubble (p - 1) (F + B) / v if p divides m. Rank r holds [2 (p - 1 - r) + (v - 1) p + 1] / v micro-batches (arXiv
    2205.05198). With v = 1 it is 1F1B.
    """
    num_chunks = options.num_stages_per_rank
    # A second chunk's forwards keep coming while the first backward travels up, so each hop takes two turns.
    return alternate(num_ranks, num_microbatches, num_chunks, hop=2 if num_chunks > 1 else 1)


KIND = ScheduleKind(
    name="interleaved_1f1b",
    build=interleaved_1f1b,
    description="1F1B over v stages per rank: a v times smaller bubble for v times the sends",
    source="Narayanan et al. 2021, arXiv 2104.04473",
    stages_per_rank="any",
    usual_stages_per_rank=2,
)
