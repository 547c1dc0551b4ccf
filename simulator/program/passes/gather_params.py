"""Gather the parameters that replicas have updated in parts."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.program.instructions import PARAMETER_GATHERS, Instruction
from simulator.program.program import Pass, Program


def insert_parameter_gathers(program: Program) -> Program:
    """Gather each bucket of which a replica has updated its part: after the update, or before the next forward.

    Replicas that share out the optimizer state alone (ZeRO stages 1 and 2, arXiv 1910.02054; Megatron's distributed
    optimizer) keep parameters whole. Gathered at the beginning of a step, buckets that forward reads later arrive while
    it runs (Megatron's ``--overlap-param-gather``); either way each step pays for one gathering.
    """
    if not program.plan.gathers_updates:
        return program.lowered(Pass.GATHER_PARAM, program.lists)
    first = program.plan.overlap_param_gather
    gathered = [tuple(_gathers(program, rank)) for rank in range(len(program.lists))]
    lists = (
        (*gathers, *instructions) if first else (*instructions, *gathers)
        for gathers, instructions in zip(gathered, program.lists, strict=True)
    )
    return program.lowered(Pass.GATHER_PARAM, lists)


def _gathers(program: Program, rank: int) -> Iterator[Instruction]:
    """Yield the gatherings of a pipeline rank in the order in which forward reads the buckets."""
    for stage in program.stages_of(rank):
        for index, bucket in reversed(list(enumerate(stage.buckets))):
            if program.is_replicated(bucket):
                yield Instruction(PARAMETER_GATHERS[bucket.axis], stage.index, part=index)
