"""Hanayo: Chimera's two directions in one model, whose stages run over the ranks in waves."""

from __future__ import annotations

from simulator.program.schedules.base import Options, Problem, Schedule, ScheduleKind, v_placement
from simulator.program.schedules.slots import slotted


def hanayo(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule of v / 2 waves.

    Bubble (p - 1) (F + B) / v if F = B; ranks hold at most p micro-batches. The paper's closed form for B = 2 F is an
    approximation of what this order does.
    """
    placement = v_placement(num_ranks, options.num_stages_per_rank)
    return Schedule(placement, slotted(placement, num_microbatches, pipelines=1, unit=num_ranks))


def _rule(num_ranks: int, num_microbatches: int, num_stages_per_rank: int) -> Problem | None:
    if num_stages_per_rank % 2 == 0:
        return None
    near = f"{num_stages_per_rank - 1} or {num_stages_per_rank + 1}" if num_stages_per_rank > 1 else "2"
    return f"hanayo goes there and back: num_stages_per_rank {num_stages_per_rank} is not even", f"use {near}"


KIND = ScheduleKind(
    name="hanayo",
    build=hanayo,
    description="waves over v stages per rank: interleaved 1F1B's bubble if F = B, without its wrap-around sends",
    source="Liu et al. 2023, arXiv 2308.15762",
    stages_per_rank="any",
    usual_stages_per_rank=2,
    placement="v",
    rule=_rule,
)
