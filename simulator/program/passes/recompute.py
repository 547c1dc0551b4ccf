"""Run the forward of blocks again, right before their backward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Pass, Program
from simulator.program.stage import Stage

NEEDS_ACTIVATIONS = (Kind.B, Kind.I)
"""Backwards that read what forward saved; W comes after I and reads the same."""


def insert_recomputation(program: Program) -> Program:
    """Replace ``2B0.3`` by ``2R0.2, 2R0.3, 2B0.3`` where segments 2 and 3 are a block that kept only its inputs.

    Full recomputation, block by block (Chen et al. 2016, arXiv 1604.06174; Korthikanti et al. 2022, arXiv 2205.05198,
    section 5): one forward more for activations of one block at a time.
    """
    again = {
        (stage.index, part): pieces
        for stage in program.stages
        for part in program.parts(stage.index)
        if (pieces := _pieces(stage, part))
    }
    if not again:
        return program.lowered(Pass.RECOMPUTE, program.lists)
    return program.lowered(Pass.RECOMPUTE, (_lower(instructions, again) for instructions in program.lists))


def _lower(
    instructions: Iterable[Instruction], again: Mapping[tuple[int, int], list[tuple[Kind, int]]]
) -> tuple[Instruction, ...]:
    lowered: list[Instruction] = []
    for instruction in instructions:
        kind, stage, microbatch, part = instruction
        if kind in NEEDS_ACTIVATIONS:
            lowered += [Instruction(what, stage, microbatch, where) for what, where in again.get((stage, part), ())]
        lowered.append(instruction)
    return tuple(lowered)


def _pieces(stage: Stage, last: int) -> list[tuple[Kind, int]]:
    """Return (kind, segment) of all that runs again before the backward of a segment.

    Exchanges that run again by themselves come one computation before the first that reads them, so that they travel
    beside it. A block runs again as a whole before the backward of the segment with which it ends.
    """
    place = stage.computing.index(last) if last in stage.computing else -1
    here = {last} if place == len(stage.computing) - 1 else set()
    here |= {stage.computing[place - 1]} if place > 0 else set()
    pieces = [
        (kind, part)
        for part, reader in stage.last_readers.items()
        for kind in [stage.segments[part].again]
        if kind and reader in here
    ]
    if last == stage.last_computing(last) and stage.segments[last].recomputed:
        segments = ((part, stage.segments[part]) for part in stage.unit_of(last))
        pieces += [(segment.again, part) for part, segment in segments if segment.again]
    return pieces
