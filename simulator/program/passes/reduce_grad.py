"""Insert the all-reduce of each gradient bucket."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Pass, Program


def insert_gradient_reduction(program: Program) -> Program:
    """All-reduce a bucket once its last backward is done, or all buckets at the end when the plan forbids overlap.

    Overlap follows torch DDP (Li et al. 2020, arXiv 2006.15704): buckets in backward order, started in the last
    micro-batch, while earlier layers are still in backward.
    """
    return program.lowered(Pass.REDUCE_GRAD, (_lower(program, instructions) for instructions in program.lists))


def _lower(program: Program, instructions: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
    lowered: list[Instruction] = []
    held: list[Instruction] = []
    last = {(i.stage, i.part): position for position, i in enumerate(instructions) if i.kind in (Kind.B, Kind.W)}
    for position, instruction in enumerate(instructions):
        lowered.append(instruction)
        if last.get((instruction.stage, instruction.part)) != position:
            continue
        for index, bucket in enumerate(program.stages[instruction.stage].buckets):
            if bucket.segment == instruction.part:
                reduction = Instruction(Kind.REDUCE_GRAD, instruction.stage, part=index)
                (lowered if program.plan.dp_overlap else held).append(reduction)
    return (*lowered, *held)
