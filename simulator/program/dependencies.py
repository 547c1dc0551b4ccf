"""Which instructions of the same rank must be done before one may start, beyond the order of its own stream.

The rules are the data flow of a training step; they are derived, never stored, so that the text form of a program
says everything. They are the same for every micro-batch, so each is worked out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from simulator.program.coded import Coded, Ints, Work, coded
from simulator.program.instructions import BACKWARD, SENDS, Instruction, Kind, Stream
from simulator.program.program import Program
from simulator.program.sharding import gathered_for


class Needs(NamedTuple):
    """Who waits for whom; rows in order of the one that waits.

    Parameters
    ----------
    position
        Of the instruction that waits.
    need
        Position of one that it waits for.
    """

    position: Ints
    need: Ints


def dependencies(program: Program, instructions: tuple[Instruction, ...]) -> list[tuple[int, ...]]:
    """Return for each instruction the positions it waits for.

    Only positions in other lanes are listed, and only those that a missing instruction does not make void: a
    program with holes is for ``verify`` to find.
    """
    needs = needs_of(program, instructions, coded(instructions))
    counts = np.bincount(needs.position, minlength=len(instructions)).tolist()
    positions = iter(needs.need.tolist())
    return [tuple([next(positions) for _ in range(count)]) for count in counts]


def needs_of(program: Program, instructions: tuple[Instruction, ...], numbers: Coded) -> Needs:
    """Return what ``dependencies`` returns, as one table."""
    where = np.full((len(numbers.works), numbers.microbatches.max(initial=-1) + 2), -1)
    where[numbers.codes, numbers.microbatches] = np.arange(len(instructions))
    last = dict(zip(numbers.works, where.max(axis=1).tolist(), strict=True))
    code = {work: index for index, work in enumerate(numbers.works)}
    order = np.argsort(numbers.codes, kind="stable")
    places = np.split(order, np.cumsum(np.bincount(numbers.codes, minlength=len(code)))[:-1])
    pairs: list[tuple[Ints, Ints]] = []
    for work, positions in zip(numbers.works, places, strict=True):
        if work[0] is Kind.BARRIER:
            pairs += [(positions, np.full(len(positions), need)) for need in _all_gradients(last)]
            continue
        for need in _needs(program, *work):
            if need not in code:
                continue
            if work[0] is Kind.REDUCE_GRAD:
                pairs.append((positions, np.full(len(positions), last[need])))
            else:
                pairs.append((positions, where[code[need], numbers.microbatches[positions]]))
    if program.plan.is_sharded:
        pairs.append(_table(gathered_for(program, instructions)))
    if not program.plan.p2p_overlap:
        pairs.append(_table(_sent_before(instructions)))
    position, wanted = np.concatenate([np.zeros((2, 0), np.int64), *map(np.stack, pairs)], axis=1)
    there = np.flatnonzero(wanted >= 0)
    order = there[np.argsort(position[there], kind="stable")]
    return Needs(position[order], wanted[order])


def _table(needs: Iterable[tuple[int, ...]]) -> tuple[Ints, Ints]:
    """Return the positions of those that wait, and what they wait for."""
    listed = list(needs)
    positions = np.repeat(np.arange(len(listed)), list(map(len, listed)))
    return positions, np.fromiter(chain.from_iterable(listed), np.int64, len(positions))


def _sent_before(instructions: tuple[Instruction, ...]) -> Iterator[tuple[int, ...]]:
    """Yield for each computation the messages that were sent since the one before: it waits until they have arrived."""
    sent: list[int] = []
    for position, instruction in enumerate(instructions):
        computes = instruction.stream is Stream.COMPUTE
        yield tuple(sent) if computes else ()
        if computes:
            sent.clear()
        elif instruction.kind in SENDS:
            sent.append(position)


def _all_gradients(last: dict[Work, int]) -> tuple[int, ...]:
    """Return the positions after which all gradients of a rank are known."""
    computed = max((at for (kind, _, _), at in last.items() if kind in BACKWARD), default=-1)
    reduced = (at for (kind, _, _), at in last.items() if kind is Kind.REDUCE_GRAD)
    return tuple(at for at in (computed, *reduced) if at >= 0)


def _needs(program: Program, kind: Kind, stage: int, part: int) -> tuple[Work, ...]:
    """Return what work waits for: of the same micro-batch, but a bucket for the last backward of its segment."""
    parts = program.parts(stage)
    first, last = parts[0], parts[-1]
    match kind:
        case Kind.F if part == first:
            received: tuple[Work, ...] = ((Kind.RECV_F, stage, -1),)
            if stage > 0 and program.hands_over(stage, stage - 1):
                received += ((Kind.ALL_REDUCE_F, stage - 1, program.parts(stage - 1)[-1]),)
            return received
        case Kind.F:
            return ((Kind.ALL_REDUCE_F, stage, part - 1),)
        case Kind.R:
            return ((Kind.ALL_REDUCE_R, stage, part - 1),)
        case Kind.ALL_REDUCE_R:
            return ((Kind.R, stage, part),)
        case Kind.B | Kind.I if part == last:
            needs: tuple[Work, ...] = ((Kind.RECV_B, stage, -1), (Kind.ALL_REDUCE_F, stage, last))
            if stage + 1 < len(program.stages) and program.hands_over(stage, stage + 1):
                needs += ((Kind.ALL_REDUCE_B, stage + 1, 0),)
            return needs
        case Kind.B | Kind.I:
            return ((Kind.ALL_REDUCE_B, stage, part + 1),)
        case Kind.ALL_REDUCE_F:
            return ((Kind.F, stage, part),)
        case Kind.ALL_REDUCE_B:
            return (Kind.B, stage, part), (Kind.I, stage, part)
        case Kind.SEND_F:
            return (Kind.F, stage, last), (Kind.ALL_REDUCE_F, stage, last)
        case Kind.SEND_B:
            return (Kind.B, stage, first), (Kind.I, stage, first), (Kind.ALL_REDUCE_B, stage, first)
        case Kind.REDUCE_GRAD:
            segment = program.stages[stage].buckets[part].segment
            return (Kind.B, stage, segment), (Kind.W, stage, segment)
        case Kind.OPTIM:
            buckets = range(len(program.stages[stage].buckets))
            return (Kind.BARRIER, 0, -1), *((Kind.REDUCE_GRAD, stage, index) for index in buckets)
    return ()
