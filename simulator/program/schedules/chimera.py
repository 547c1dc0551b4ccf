"""Chimera: two replicas of the model in opposite directions fill each other's bubbles."""

from __future__ import annotations

from simulator.program.schedules.base import Options, Problem, Schedule, ScheduleKind
from simulator.program.schedules.slots import slotted


def chimera(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule; with m > p its basic units of p micro-batches follow each other ("direct concatenation").

    Stages p to 2 p - 1 are the second replica and run from the last rank to the first. With m = p the bubble is
    (p - 2) B if B >= F. Ranks hold p / 2 + 1 to p micro-batches.
    """
    placement = (*range(num_ranks), *reversed(range(num_ranks)))
    return Schedule(placement, slotted(placement, num_microbatches, pipelines=2, unit=num_ranks // 2), pipelines=2)


def _rule(num_ranks: int, num_microbatches: int, num_stages_per_rank: int) -> Problem | None:
    for name, given in (("pp", num_ranks), ("num_microbatches", num_microbatches)):
        if given % 2:
            near = f"{given - 1} or {given + 1}" if given > 1 else "2"
            return f"chimera shares {name} between two directions: {given} is not even", f"use {name} {near}"
    return None


KIND = ScheduleKind(
    name="chimera",
    build=chimera,
    description="two replicas in opposite directions fill part of each other's bubbles, for twice the parameters",
    source="Li and Hoefler 2021, arXiv 2107.06925",
    placement="bidirectional",
    rule=_rule,
)
