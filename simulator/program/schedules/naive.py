"""One micro-batch at a time: what a pipeline costs without any pipelining."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules.base import Options, Schedule, ScheduleKind, loop_placement


def naive(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule in which a micro-batch starts when the one before is done on all ranks.

    Only one rank is ever busy: bubble m (p - 1) (F + B).
    """
    orders = tuple(
        tuple(
            Instruction(kind, stage, microbatch) for microbatch in range(num_microbatches) for kind in (Kind.F, Kind.B)
        )
        for stage in range(num_ranks)
    )
    return Schedule(loop_placement(num_ranks), orders)


KIND = ScheduleKind(
    name="naive",
    build=naive,
    description="one micro-batch at a time through all stages",
    source="Huang et al. 2019, arXiv 1811.06965, figure 2b",
)
