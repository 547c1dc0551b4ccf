"""V-Min: two stages per rank in a V, a third of 1F1B's activations on every rank, and two thirds of its bubble."""

from __future__ import annotations

from simulator.program.schedules.base import Options, Schedule, ScheduleKind
from simulator.program.schedules.building_block import repeat


def v_min(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule; a micro-batch goes down and up without waiting, and back again.

    A rank holds (p + 1) / 3 + 1 micro-batches at most, rounded down. If F = I = W the bubble is (4 p - 5) F / 2: two
    thirds of 1F1B's (3 p - 3) F, and less. Where they differ it grows with the number of micro-batches.
    """
    p = num_ranks
    # Where 3 divides p, slots of a rank would coincide without the gap before backward.
    gap = 0 if p % 3 else 2
    block = [(i, 2 * p - i - 1, 2 * p + gap + i, 4 * p + gap - i - 1) for i in range(p)]
    return repeat(block, num_microbatches, limit=(p + 1) // 3 + 1)


KIND = ScheduleKind(
    name="v_min",
    build=v_min,
    description="two stages in a V: a third of 1F1B's memory, and two thirds of its bubble if F = I = W",
    source="Qi et al. 2024, arXiv 2405.15362; github.com/sail-sg/zero-bubble-pipeline-parallelism, zbv_greedy.py",
    stages_per_rank=2,
    usual_stages_per_rank=2,
    placement="v",
)
