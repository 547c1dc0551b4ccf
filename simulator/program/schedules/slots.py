"""The pattern that Chimera and Hanayo share: a grid of equal time slots, which two directions share by parity."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind


def slotted(
    placement: tuple[int, ...], num_microbatches: int, pipelines: int, unit: int
) -> tuple[tuple[Instruction, ...], ...]:
    """Return each rank's order if F and B take one slot each.

    Micro-batch j of a unit is in stage x of a pipeline of depth d forward in slot x + 2 j and backward in slot
    2 d - 1 - x + 2 j, a unit every 2 d slots. No rank is asked for two actions in a slot: those that come down the
    ranks take its even slots while those that go up take the odd ones, and backward it is the other way round.

    Parameters
    ----------
    placement
        Rank of each stage, one pipeline after the other.
    pipelines
        Replicas of the whole model, which share the micro-batches equally.
    unit
        Micro-batches of a pipeline that together keep all ranks busy.
    """
    depth = len(placement) // pipelines
    share = num_microbatches // pipelines
    starts = [2 * (index % unit) + 2 * depth * (index // unit) for index in range(share)]
    num_slots = starts[-1] + 2 * depth
    grid: list[list[Instruction | None]] = [[None] * num_slots for _ in range(max(placement) + 1)]
    for stage, rank in enumerate(placement):
        pipeline, position = divmod(stage, depth)
        row = grid[rank]
        for microbatch, start in enumerate(starts, pipeline * share):
            row[start + position] = Instruction(Kind.F, stage, microbatch)
            row[start + 2 * depth - 1 - position] = Instruction(Kind.B, stage, microbatch)
    return tuple(tuple([action for action in row if action is not None]) for row in grid)
