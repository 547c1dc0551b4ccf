"""Sum the gradients of parameters of which each tensor-parallel rank saw some tokens alone."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Pass, Program


def insert_partial_reduction(program: Program) -> Program:
    """All-reduce, once a step and stage, the gradients of norms and biases that sequence parallelism left partial.

    One message behind all reductions over the replicas, as Megatron's ``finalize_model_grads`` does.
    """
    lists = (
        (
            *instructions,
            *(Instruction(Kind.REDUCE_TP_GRAD, stage.index) for stage in program.stages_of(rank) if stage.partial),
        )
        for rank, instructions in enumerate(program.lists)
    )
    return program.lowered(Pass.REDUCE_PARTIAL, lists)
