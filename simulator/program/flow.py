"""The data flow of a micro-batch on one rank: which work makes what another one reads, forward and backward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from simulator.program.coded import Work
from simulator.program.instructions import EXCHANGES_B, EXCHANGES_F, EXCHANGES_R, Kind
from simulator.program.program import Pass, Program
from simulator.program.stage import BORDER

WHOLE = -1
"""The part of what is not cut into segments."""


def made_by(program: Program, stage: int, part: int) -> Iterator[Work]:
    """Yield what makes the tensors that a part of a stage reads forward."""
    its = program.stages[stage]
    makers = (BORDER,) if part == WHOLE else its.segments[part].makers
    yield from _forwards(program, stage, makers)


def made_again_by(program: Program, stage: int, part: int) -> Iterator[Work]:
    """Yield what makes the tensors that a part of a stage reads when it runs again; its unit does so too."""
    segments = program.stages[stage].segments
    for maker in segments[part].makers:
        again = segments[maker].again if maker != BORDER and segments[maker].unit == segments[part].unit else None
        yield from [(again, stage, maker)] if again else _forwards(program, stage, (maker,))


def sent_by(program: Program, stage: int) -> Iterator[Work]:
    """Yield what makes the tensors that a stage hands to the next one."""
    whole = Pass.SEGMENTS not in program.passes
    yield from [(Kind.F, stage, WHOLE)] if whole else _forwards(program, stage, program.stages[stage].sent_by)


def taken_by(program: Program, stage: int, part: int) -> Iterator[Work]:
    """Yield what makes the gradients that a part of a stage reads backward, and what it exchanges again for that."""
    its = program.stages[stage]
    takers = (BORDER,) if part == WHOLE else its.segments[part].takers
    yield from _backwards(program, stage, takers)
    for maker in () if part == WHOLE else its.segments[part].makers:
        if maker != BORDER and its.segments[maker].is_made_again and (again := its.segments[maker].again):
            yield again, stage, maker


def returned_by(program: Program, stage: int) -> Iterator[Work]:
    """Yield what makes the gradients that a stage hands back to the one before."""
    whole = Pass.SEGMENTS not in program.passes
    backwards = ((kind, stage, WHOLE) for kind in (Kind.B, Kind.I))
    yield from backwards if whole else _backwards(program, stage, program.stages[stage].returned_by)


def _forwards(program: Program, stage: int, parts: Iterable[int]) -> Iterator[Work]:
    """Yield the forwards of some parts of a stage; at its border, what brings tensors over it."""
    for part in parts:
        if part == BORDER and stage > 0 and program.hands_over(stage, stage - 1):
            yield from sent_by(program, stage - 1)
        elif part == BORDER:
            yield Kind.RECV_F, stage, WHOLE
        elif kind := program.stages[stage].segments[part].forward:
            yield kind, stage, part


def _backwards(program: Program, stage: int, parts: Iterable[int]) -> Iterator[Work]:
    """Yield the backwards of some parts of a stage; at its border, what brings gradients over it."""
    for part in parts:
        if part == BORDER and stage + 1 < len(program.stages) and program.hands_over(stage, stage + 1):
            yield from returned_by(program, stage + 1)
        elif part == BORDER:
            yield Kind.RECV_B, stage, WHOLE
        else:
            kind = program.stages[stage].segments[part].backward
            yield from ((each, stage, part) for each in ((Kind.B, Kind.I) if kind is Kind.B else (kind,)) if each)


FLOWS = {
    **dict.fromkeys((Kind.F, *EXCHANGES_F), made_by),
    **dict.fromkeys((Kind.B, Kind.I, *EXCHANGES_B), taken_by),
    **dict.fromkeys((Kind.R, *EXCHANGES_R), made_again_by),
}
"""For each kind of work of a segment what makes the tensors that it reads."""
