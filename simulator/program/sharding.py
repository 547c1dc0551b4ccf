"""Which sharded parameters are gathered when: what the rank's list says, derived and never stored."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Program

READS_PARAMETERS = (Kind.F, Kind.R, Kind.B, Kind.I)
"""A weight's gradient reads a layer's input and the gradient of its output, not the weight: W is not among them."""

GATHERS = (Kind.UNSHARD, Kind.RESHARD)
"""Kinds that exist in sharded plans alone."""

BucketKey = tuple[int, int]
"""Stage and number of a bucket."""


def buckets_read(program: Program) -> dict[Instruction, BucketKey]:
    """Return the sharded bucket whose parameters each work, an instruction without its micro-batch, reads."""
    if not program.plan.is_sharded:
        return {}
    return {
        Instruction(kind, stage.index, -1, part): (stage.index, bucket)
        for stage in program.stages
        for part in program.parts(stage.index)
        if (bucket := stage.sharded_bucket(part)) is not None
        for kind in READS_PARAMETERS
    }


def gathered_for(program: Program, instructions: tuple[Instruction, ...]) -> list[tuple[int, ...]]:
    """Return for each instruction the positions that sharding makes it wait for.

    What reads parameters waits for their UNSHARD. An UNSHARD waits for the RESHARD before it in the list: it may not
    take memory that has not been let go of, however early its turn comes.
    """
    buckets = buckets_read(program)
    unshards: dict[BucketKey, int] = {}
    reshard: tuple[int, ...] = ()
    needs: list[tuple[int, ...]] = []
    for position, instruction in enumerate(instructions):
        bucket = buckets.get(instruction.work())
        needs.append((unshards[bucket],) if bucket in unshards else ())
        if instruction.kind is Kind.UNSHARD:
            needs[-1] = reshard
            unshards[instruction.stage, instruction.part] = position
        elif instruction.kind is Kind.RESHARD:
            reshard = (position,)
    return needs


def fault(program: Program, instructions: tuple[Instruction, ...]) -> tuple[Instruction, str] | None:
    """Return an instruction that gathers, reads or lets go of parameters at a wrong time and what is wrong, or None."""
    there, buckets = set(instructions), buckets_read(program)
    whole: dict[BucketKey, Instruction] = {}
    following: dict[BucketKey, Instruction] = {}

    def late(instruction: Instruction, need: Instruction) -> tuple[Instruction, str]:
        return (instruction, f"comes before {need}, which it needs") if need in there else (need, "is missing")

    for instruction in instructions:
        kind, stage, number, part = instruction
        read = buckets.get(instruction.work())
        key = read or (stage, part)
        expected = following.get(key, Instruction(Kind.UNSHARD, key[0], 0, key[1]))
        if kind is Kind.UNSHARD:
            if key in whole:
                return late(instruction, whole[key]._replace(kind=Kind.RESHARD))
            if instruction != expected:
                return late(instruction, expected)
            whole[key], following[key] = instruction, expected._replace(microbatch=number + 1)
        elif kind is Kind.RESHARD:
            gathering = instruction._replace(kind=Kind.UNSHARD)
            if whole.get(key) != gathering:
                left = whole.get(key, gathering)._replace(kind=Kind.RESHARD)
                return (left, "is missing") if left not in there else late(instruction, gathering)
            del whole[key]
        elif read and key not in whole:
            return late(instruction, expected)
    return next(((left._replace(kind=Kind.RESHARD), "is missing") for left in whole.values()), None)
