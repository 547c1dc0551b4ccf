"""Split F and B of a stage into its segments, with the exchanges between them."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Pass, Program
from simulator.program.stage import Stage

SPLIT = (Kind.F, Kind.B, Kind.I, Kind.W)
"""Actions that run segment by segment."""


def split_into_segments(program: Program) -> Program:
    """Replace ``2F0`` by ``2F0.0, 2F0.1, 2TP_F0.2, 2F0.3, ...`` and ``2B0`` by the same backwards.

    With ``tp_overlap`` a sum of gradients over tensor-parallel ranks travels beside the weight gradients of what made
    its last part: ``2B0.3, 2TP_B0.2`` becomes ``2I0.3, 2TP_B0.2, 2W0.3`` (Megatron's
    LinearWithGradAccumulationAndAsyncCommunication).
    """
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
    if kind is Kind.F:
        return [(segment.forward, part) for part, segment in enumerate(stage.segments) if segment.forward]
    beside = stage.weights_beside if kind is Kind.B else {}
    split = {*beside.values()}
    pieces: list[tuple[Kind, int]] = []
    for part in stage.backward:
        segment = stage.segments[part]
        if not segment.exchange:
            pieces.append((Kind.I if part in split else kind, part))
        elif kind is not Kind.W and segment.backward:
            pieces.append((segment.backward, part))
            pieces += [(Kind.W, beside[part])] if part in beside else []
    return pieces
