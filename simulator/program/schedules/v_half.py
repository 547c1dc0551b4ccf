"""V-Half: two stages per rank in a V, half of 1F1B's activations on every rank, and half of its bubble."""

from __future__ import annotations

from simulator.program.schedules.base import Options, Schedule, ScheduleKind
from simulator.program.schedules.building_block import repeat


def v_half(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule; forwards go down at half speed, so that rank 0 does not run far ahead.

    A rank holds p / 2 + 1 micro-batches at most. If F = I = W the bubble is (3 p - 5) F / 2, or with an odd p
    (3 p - 4) F / 2: half of 1F1B's (p - 1) (F + B) = (3 p - 3) F, and less.
    """
    p = num_ranks
    # Where p is even, slots of a rank would coincide without the gap before backward.
    gap = 0 if p % 2 else 3
    block = [(2 * i, 3 * p - i - 2, 3 * p + gap + 2 * i - 1, 6 * p + gap - i - 2) for i in range(p)]
    return repeat(block, num_microbatches, limit=p // 2 + 1)


KIND = ScheduleKind(
    name="v_half",
    build=v_half,
    description="two stages in a V: half of 1F1B's memory, and half of its bubble if F = I = W",
    source="Qi et al. 2024, arXiv 2405.15362; github.com/sail-sg/zero-bubble-pipeline-parallelism, zbv_greedy.py",
    stages_per_rank=2,
    usual_stages_per_rank=2,
    placement="v",
)
