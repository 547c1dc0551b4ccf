"""Insert the reduction of each gradient bucket."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Pass, Program

MAKES_GRADIENTS = (Kind.B, Kind.W)
"""Actions that make parameter gradients."""


def insert_gradient_reduction(program: Program) -> Program:
    """Reduce a bucket once its last backward is done, or all buckets at the end when the plan forbids overlap.

    Overlap follows torch DDP (Li et al. 2020, arXiv 2006.15704): buckets in backward order, started in the last
    micro-batch, while earlier layers are still in backward. Plans that keep no whole gradients reduce those of each
    micro-batch. Where groups of replicas each share out a copy, parts are summed inside a group, then over the groups.

    With two pipelines a rank holds copies of two stages, and the rank with the other copies runs them in another order;
    so that both reduce in the same order, they do so at the end, the earlier part of the model first.
    """
    return program.lowered(Pass.REDUCE_GRAD, (_lower(program, instructions) for instructions in program.lists))


def _lower(program: Program, instructions: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
    lowered: list[Instruction] = []
    held: list[Instruction] = []
    each = program.plan.reduces_each
    overlap = (program.plan.dp_overlap or each) and program.pipelines == 1
    last = {
        (stage, part, microbatch if each else -1): place
        for place, (kind, stage, microbatch, part) in enumerate(instructions)
        if kind in MAKES_GRADIENTS
    }
    begin = 0
    for key, place in sorted(last.items(), key=itemgetter(1)):
        lowered += instructions[begin : place + 1]
        (lowered if overlap else held).extend(_reductions(program, *key))
        begin = place + 1
    lowered += instructions[begin:]
    held.sort(key=lambda reduction: program.model_stage(reduction.stage) if program.pipelines > 1 else 0)
    return (*lowered, *held)


def _reductions(program: Program, stage: int, part: int, microbatch: int) -> Iterator[Instruction]:
    """Yield what reduces the buckets that a segment's backward completes."""
    for index, bucket in enumerate(program.stages[stage].buckets):
        if bucket.segment == part:
            yield from (Instruction(kind, stage, microbatch, index) for kind in program.sums(bucket))
