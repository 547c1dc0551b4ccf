"""Append the parameter update, behind a barrier of the pipeline unless the plan relaxes it."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Pass, Program

BARRIER = Instruction(Kind.BARRIER, 0)
"""One for the whole pipeline, so it bears the first stage's number on every rank."""


def append_optimizer(program: Program) -> Program:
    """Update each stage's parameters once, after everything else on its rank.

    Trainers clip gradients by their global norm and skip steps that overflowed, so every rank waits for all others
    before it updates. Post-validation (Qi et al. 2023, arXiv 2401.10241, section 4) updates at once and takes a bad
    update back afterwards: the plan's ``optimizer_barrier: false``.
    """
    barrier = (BARRIER,) if program.has_barrier else ()
    lists = (
        (*instructions, *barrier, *(Instruction(Kind.OPTIM, stage.index) for stage in program.stages_of(rank)))
        for rank, instructions in enumerate(program.lists)
    )
    return program.lowered(Pass.OPTIMIZER, lists)
