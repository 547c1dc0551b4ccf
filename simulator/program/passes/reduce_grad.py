"""Insert the all-reduce of each gradient bucket."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Pass, Program


def insert_gradient_reduction(program: Program) -> Program:
    """All-reduce a bucket once its last backward is done, or all buckets at the end when the plan forbids overlap.

    Overlap follows torch DDP (Li et al. 2020, arXiv 2006.15704): buckets in backward order, started in the last
    micro-batch, while earlier layers are still in backward.

    With two pipelines a rank holds copies of two stages, and the rank with the other copies runs them in another order;
    so that both reduce in the same order, they do so at the end, the earlier part of the model first.
    """
    return program.lowered(Pass.REDUCE_GRAD, (_lower(program, instructions) for instructions in program.lists))


def _lower(program: Program, instructions: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
    lowered: list[Instruction] = []
    held: list[Instruction] = []
    overlap = program.plan.dp_overlap and program.pipelines == 1
    last = {(i.stage, i.part): position for position, i in enumerate(instructions) if i.kind in (Kind.B, Kind.W)}
    for position, instruction in enumerate(instructions):
        lowered.append(instruction)
        if last.get((instruction.stage, instruction.part)) != position:
            continue
        for index, bucket in enumerate(program.stages[instruction.stage].buckets):
            if bucket.segment == instruction.part:
                reduction = Instruction(bucket.reduction, instruction.stage, part=index)
                (lowered if overlap else held).append(reduction)
    held.sort(key=lambda reduction: program.model_stage(reduction.stage) if program.pipelines > 1 else 0)
    return (*lowered, *held)
