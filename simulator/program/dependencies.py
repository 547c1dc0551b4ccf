"""Which instructions of the same rank must be done before one may start, beyond the order of its own stream.

The rules are the data flow of a training step; they are derived, never stored, so that the text form of a program
says everything. They are the same for every micro-batch, so each is worked out once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from simulator.plan.plan import Plan
from simulator.program.coded import Coded, Ints, Work, coded
from simulator.program.flow import FLOWS, returned_by, sent_by
from simulator.program.instructions import (
    BACKWARD,
    PARAMETER_GATHERS,
    SENDS,
    STREAM_OF,
    SUMS,
    Instruction,
    Kind,
    Stream,
)
from simulator.program.program import Program
from simulator.program.sharding import gathered_for, gathered_to_read, summed_after, summed_before


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

    A computation does not wait for another one by name: a rank computes in order. Nor are positions listed that a
    missing instruction makes void: a program with holes is for ``verify`` to find.
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
    once = (Kind.OPTIM, Kind.REDUCE_TP_GRAD, *(() if program.plan.reduces_each else SUMS))
    for work, positions in zip(numbers.works, places, strict=True):
        if work[0] is Kind.BARRIER:
            pairs += [(positions, np.full(len(positions), need)) for need in _all_gradients(last)]
            continue
        for need in _needs(program, *work):
            if need not in code:
                continue
            if work[0] in once or need[0] in PARAMETER_GATHERS.values():
                pairs.append((positions, np.full(len(positions), last[need])))
            else:
                pairs.append((positions, where[code[need], numbers.microbatches[positions]]))
    if program.plan.is_sharded:
        pairs.append(_table(gathered_for(program, instructions)))
    if program.plan.reduces_each:
        pairs.append(_table(summed_before(program, instructions)))
    if blocking := _blocking(program.plan):
        pairs.append(_table(_sent_before(instructions, blocking)))
    none = np.zeros(0, np.int64)
    position, wanted = map(np.concatenate, zip((none, none), *pairs, strict=True))
    there = np.flatnonzero(wanted >= 0)
    order = there[np.argsort(position[there], kind="stable")]
    return Needs(position[order], wanted[order])


def _table(needs: Iterable[tuple[int, ...]]) -> tuple[Ints, Ints]:
    """Return the positions of those that wait, and what they wait for."""
    listed = list(needs)
    positions = np.repeat(np.arange(len(listed)), list(map(len, listed)))
    return positions, np.fromiter(chain.from_iterable(listed), np.int64, len(positions))


def _blocking(plan: Plan) -> tuple[Kind, ...]:
    """Return the messages that a rank waits for before it computes on."""
    sums = SUMS if plan.reduces_each and not plan.dp_overlap else ()
    return (*(() if plan.p2p_overlap else SENDS), *sums)


def _sent_before(instructions: tuple[Instruction, ...], blocking: tuple[Kind, ...]) -> Iterator[tuple[int, ...]]:
    """Yield for each computation the messages that were sent since the one before: it waits until they have arrived."""
    sent: list[int] = []
    for position, instruction in enumerate(instructions):
        computes = instruction.stream is Stream.COMPUTE
        yield tuple(sent) if computes else ()
        if computes:
            sent.clear()
        elif instruction.kind in blocking:
            sent.append(position)


def _all_gradients(last: dict[Work, int]) -> tuple[int, ...]:
    """Return the positions after which all gradients of a rank are known."""
    computed = max((at for (kind, _, _), at in last.items() if kind in BACKWARD), default=-1)
    reduced = (at for (kind, _, _), at in last.items() if kind in (*SUMS, Kind.REDUCE_TP_GRAD))
    return tuple(at for at in (computed, *reduced) if at >= 0)


def _needs(program: Program, kind: Kind, stage: int, part: int) -> tuple[Work, ...]:
    """Return what work waits for: of the same micro-batch, but a bucket for the last backward of its segment."""
    match kind:
        case Kind.SEND_F:
            return tuple(sent_by(program, stage))
        case Kind.SEND_B:
            return tuple(returned_by(program, stage))
        case _ if kind in SUMS:
            return summed_after(program, kind, stage, part)
        case _ if kind in PARAMETER_GATHERS.values():
            if program.plan.overlap_param_gather:
                return ()
            return ((Kind.PARAM_FROM_HOST, stage, part) if program.plan.updates_on_host else (Kind.OPTIM, stage, -1),)
        case Kind.PARAM_FROM_HOST:
            return ((Kind.OPTIM, stage, -1),)
        case Kind.REDUCE_TP_GRAD:
            backwards = (
                (each, stage, number) for number in program.stages[stage].computing for each in (Kind.B, Kind.W)
            )
            return *backwards, *_summed(program, stage)
        case Kind.OPTIM:
            return (Kind.BARRIER, 0, -1), (Kind.REDUCE_TP_GRAD, stage, -1), *_summed(program, stage)
        case _ if kind in FLOWS:
            # A host computes in order, but goes on while messages are under way.
            computes = STREAM_OF[kind] is Stream.COMPUTE
            works = FLOWS[kind](program, stage, part)
            gathered = gathered_to_read(program, stage, part) if kind is Kind.F else ()
            return (*(work for work in works if not computes or STREAM_OF[work[0]] is not Stream.COMPUTE), *gathered)
    return ()


def _summed(program: Program, stage: int) -> Iterator[Work]:
    """Yield the last sums of a stage's buckets."""
    for index, bucket in enumerate(program.stages[stage].buckets):
        yield from ((kind, stage, index) for kind in program.sums(bucket)[-1:])
