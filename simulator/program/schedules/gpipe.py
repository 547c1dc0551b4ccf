"""GPipe (Huang et al. 2019, arXiv 1811.06965): all forwards, then all backwards."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules.base import Options, Schedule, ScheduleKind, loop_placement


def gpipe(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule. Bubble (p - 1) (F + B), and all m micro-batches are in flight at once."""
    orders = tuple(
        tuple(
            Instruction(kind, stage, microbatch) for kind in (Kind.F, Kind.B) for microbatch in range(num_microbatches)
        )
        for stage in range(num_ranks)
    )
    return Schedule(loop_placement(num_ranks), orders)


KIND = ScheduleKind(
    name="gpipe",
    build=gpipe,
    description="all forwards, then all backwards",
    source="Huang et al. 2019, arXiv 1811.06965",
)
