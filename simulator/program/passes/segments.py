"""Split F and B of a stage into its segments, with the tensor-parallel all-reduces between them."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Pass, Program
from simulator.program.stage import Stage

SPLIT = (Kind.F, Kind.B, Kind.I, Kind.W)
"""Actions that run segment by segment."""


def split_into_segments(program: Program) -> Program:
    """Replace ``2F0`` by ``2F0.0, 2F0.1, 2ALL_REDUCE_F0.1, ...`` and ``2B0`` by the same backwards."""
    pieces = {(kind, stage.index): _pieces(stage, kind) for stage in program.stages for kind in SPLIT}
    lists = (
        tuple(
            Instruction(piece, stage, microbatch, index)
            for kind, stage, microbatch, part in instructions
            for piece, index in pieces.get((kind, stage), ((kind, part),))
        )
        for instructions in program.lists
    )
    return program.lowered(Pass.SEGMENTS, lists)


def _pieces(stage: Stage, kind: Kind) -> list[tuple[Kind, int]]:
    """Return (kind, segment) of everything that an action of a stage becomes, in order."""
    pieces: list[tuple[Kind, int]] = []
    segments = list(enumerate(stage.segments))
    for index, segment in segments if kind is Kind.F else reversed(segments):
        pieces.append((kind, index))
        if kind is Kind.F and segment.parallel:
            pieces.append((Kind.ALL_REDUCE_F, index))
        if kind in (Kind.B, Kind.I) and segment.reduces_backward:
            pieces.append((Kind.ALL_REDUCE_B, index))
    return pieces
