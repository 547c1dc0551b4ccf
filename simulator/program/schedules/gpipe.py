"""GPipe (Huang et al. 2019, arXiv 1811.06965): all forwards, then all backwards."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind


def gpipe(num_stages: int, num_microbatches: int) -> tuple[tuple[Instruction, ...], ...]:
    """Return each rank's order. Bubble (p - 1) / (m + p - 1); all m micro-batches are in flight at once."""
    return tuple(
        tuple(
            Instruction(kind, stage, microbatch) for kind in (Kind.F, Kind.B) for microbatch in range(num_microbatches)
        )
        for stage in range(num_stages)
    )
