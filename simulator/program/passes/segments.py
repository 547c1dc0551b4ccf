"""Split F and B of a stage into its segments, with the tensor-parallel all-reduces between them."""

from __future__ import annotations

from dataclasses import replace

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Program


def split_into_segments(program: Program) -> Program:
    """Replace ``2F0`` by ``2F0.0, 2F0.1, 2ALL_REDUCE_F0.1, ...`` and ``2B0`` by the same backwards."""
    return replace(
        program,
        lists=tuple(
            tuple(part for instruction in instructions for part in _split(program, instruction))
            for instructions in program.lists
        ),
    )


def _split(program: Program, instruction: Instruction) -> list[Instruction]:
    segments = program.stages[instruction.stage].segments
    parts: list[Instruction] = []
    if instruction.kind is Kind.F:
        for index, segment in enumerate(segments):
            parts.append(instruction._replace(part=index))
            if segment.parallel:
                parts.append(instruction._replace(kind=Kind.ALL_REDUCE_F, part=index))
    elif instruction.kind is Kind.B:
        for index, segment in reversed(list(enumerate(segments))):
            parts.append(instruction._replace(part=index))
            if segment.reduces_backward:
                parts.append(instruction._replace(kind=Kind.ALL_REDUCE_B, part=index))
    else:
        parts.append(instruction)
    return parts
