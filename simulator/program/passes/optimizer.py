"""Append the parameter update."""

from __future__ import annotations

from dataclasses import replace

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Program


def append_optimizer(program: Program) -> Program:
    """Update each stage's parameters once, after everything else on its rank."""
    lists = (
        (*instructions, *(Instruction(Kind.OPTIM, stage.index) for stage in program.stages_of(rank)))
        for rank, instructions in enumerate(program.lists)
    )
    return replace(program, lists=tuple(lists))
