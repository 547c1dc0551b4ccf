"""Which parameters are gathered and which gradients are summed when: what the rank's list says, never stored."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.program.coded import Work
from simulator.program.instructions import PARAMETER_GATHERS, SUMS, UNSHARDS, Instruction, Kind
from simulator.program.program import Program

READS_PARAMETERS = (Kind.F, Kind.R, Kind.B, Kind.I)
"""A weight's gradient reads a layer's input and the gradient of its output, not the weight: W is not among them."""

GATHERS = (*UNSHARDS.values(), Kind.RESHARD)
"""Kinds that exist in sharded plans alone."""

BucketKey = tuple[int, int]
"""Stage and number of a bucket."""


def buckets_read(program: Program) -> dict[Instruction, tuple[BucketKey, ...]]:
    """Return the sharded buckets whose parameters each work, an instruction without its micro-batch, reads."""
    if not program.plan.is_sharded:
        return {}
    found: dict[Instruction, tuple[BucketKey, ...]] = {}
    for stage in program.stages:
        for part in program.parts(stage.index):
            buckets = (each for each in stage.sharded_buckets(part) if program.is_replicated(stage.buckets[each]))
            if keys := tuple((stage.index, bucket) for bucket in buckets):
                found |= {Instruction(kind, stage.index, -1, part): keys for kind in READS_PARAMETERS}
    return found


def unshard(program: Program, bucket: BucketKey, times: int) -> Instruction:
    """Return what gathers a bucket when that has been done some times before."""
    stage, part = bucket
    return Instruction(UNSHARDS[program.stages[stage].buckets[part].axis], stage, times, part)


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
        read = buckets.get(instruction.work(), ())
        needs.append(tuple(unshards[bucket] for bucket in read if bucket in unshards))
        if instruction.kind in UNSHARDS.values():
            needs[-1] = reshard
            unshards[instruction.stage, instruction.part] = position
        elif instruction.kind is Kind.RESHARD:
            reshard = (position,)
    return needs


def gathered_to_read(program: Program, stage: int, part: int) -> Iterator[Work]:
    """Yield what gathers the parameters of a segment at the beginning of a step, if they were updated in parts."""
    if not (program.plan.gathers_updates and program.plan.overlap_param_gather) or part < 0:
        return
    names = {node.name for node in program.stages[stage].segments[part].nodes}
    for index, bucket in enumerate(program.stages[stage].buckets):
        if program.is_replicated(bucket) and not names.isdisjoint(bucket.nodes):
            yield PARAMETER_GATHERS[bucket.axis], stage, index


def read_early(program: Program, instructions: tuple[Instruction, ...]) -> tuple[Instruction, str] | None:
    """Return a forward that reads parameters before the beginning of the step has gathered them, and what is wrong."""
    there: set[Work] = set()
    for instruction in instructions:
        kind, stage, _, part = instruction
        if (kind, stage, part) in there:
            continue
        there.add((kind, stage, part))
        for needed in gathered_to_read(program, stage, part) if kind is Kind.F else ():
            if needed not in there:
                return instruction, f"comes before {Instruction(needed[0], stage, part=needed[2])}, which it needs"
    return None


def summed_after(program: Program, kind: Kind, stage: int, part: int) -> tuple[Work, ...]:
    """Return what a bucket of gradients has been through before a sum: the sum before, or else its backward."""
    bucket = program.stages[stage].buckets[part]
    before = program.sums(bucket)[: program.sums(bucket).index(kind)]
    if before:
        return ((before[-1], stage, part),)
    return (Kind.B, stage, bucket.segment), (Kind.W, stage, bucket.segment)


def summed_before(program: Program, instructions: tuple[Instruction, ...]) -> Iterator[tuple[int, ...]]:
    """Yield for each instruction the sums of the micro-batch before, whose bucket its weight gradients go into next."""
    writes = {
        (kind, stage.index, part): [
            (stage.index, index)
            for index, bucket in enumerate(stage.buckets)
            if not {node.name for node in segment.nodes}.isdisjoint(bucket.nodes)
        ]
        for stage in program.stages
        for part, segment in enumerate(stage.segments)
        for kind in (Kind.B, Kind.W)
    }
    sums: dict[BucketKey, int] = {}
    for position, (kind, stage, _, part) in enumerate(instructions):
        found = (sums.pop(bucket, None) for bucket in writes.get((kind, stage, part), ()))
        yield tuple(place for place in found if place is not None)
        if kind in SUMS:
            sums[stage, part] = position


def fault(program: Program, instructions: tuple[Instruction, ...]) -> tuple[Instruction, str] | None:
    """Return an instruction that gathers, reads or lets go of parameters at a wrong time and what is wrong, or None."""
    there, buckets = set(instructions), buckets_read(program)
    whole: dict[BucketKey, Instruction] = {}
    following: dict[BucketKey, Instruction] = {}

    def late(instruction: Instruction, need: Instruction) -> tuple[Instruction, str]:
        return (instruction, f"comes before {need}, which it needs") if need in there else (need, "is missing")

    for instruction in instructions:
        kind, stage, number, part = instruction
        key = (stage, part)
        if kind in UNSHARDS.values():
            expected = following.get(key, unshard(program, key, 0))
            if key in whole:
                return late(instruction, whole[key]._replace(kind=Kind.RESHARD))
            if instruction != expected:
                return late(instruction, expected)
            whole[key], following[key] = instruction, expected._replace(microbatch=number + 1)
        elif kind is Kind.RESHARD:
            gathering = unshard(program, key, number)
            if whole.get(key) != gathering:
                left = whole.get(key, gathering)._replace(kind=Kind.RESHARD)
                return (left, "is missing") if left not in there else late(instruction, gathering)
            del whole[key]
        for read in buckets.get(instruction.work(), ()):
            if read not in whole:
                return late(instruction, following.get(read, unshard(program, read, 0)))
    return next(((left._replace(kind=Kind.RESHARD), "is missing") for left in whole.values()), None)
