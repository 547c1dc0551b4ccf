"""Which instructions of the same rank must be done before one may start, beyond the order of its own stream.

The rules are the data flow of a training step; they are derived, never stored, so that the text form of a program
says everything. They are the same for every micro-batch, so each is worked out once.
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.program.flow import FLOWS, Work, returned_by, sent_by
from simulator.program.instructions import BACKWARD, REDUCTIONS, SENDS, STREAM_OF, Instruction, Kind, Stream
from simulator.program.program import Program
from simulator.program.sharding import gathered_for


def dependencies(program: Program, instructions: tuple[Instruction, ...]) -> list[tuple[int, ...]]:
    """Return for each instruction the positions it waits for.

    A computation does not wait for another one by name: a rank computes in order. Nor are positions listed that a
    missing instruction makes void: a program with holes is for ``verify`` to find.
    """
    where: dict[tuple[Kind, int, int, int], int] = {each: position for position, each in enumerate(instructions)}
    last: dict[Work, int] = {(kind, stage, part): at for at, (kind, stage, _, part) in enumerate(instructions)}
    rules: dict[Work, list[Work]] = {}
    result: list[tuple[int, ...]] = []
    for kind, stage, microbatch, part in instructions:
        rule = rules.get((kind, stage, part))
        if rule is None:
            rule = rules[kind, stage, part] = [need for need in _needs(program, kind, stage, part) if need in last]
        if kind in REDUCTIONS.values():
            result.append(tuple([last[need] for need in rule]))
        elif kind is Kind.BARRIER:
            result.append(_all_gradients(last))
        elif rule:
            keys = [(other, its_stage, microbatch, its_part) for other, its_stage, its_part in rule]
            result.append(tuple([where[key] for key in keys if key in where]))
        else:
            result.append(())
    if program.plan.is_sharded:
        result = [own + more for own, more in zip(result, gathered_for(program, instructions), strict=True)]
    if not program.plan.p2p_overlap:
        result = [own + more for own, more in zip(result, _sent_before(instructions), strict=True)]
    return result


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
    reduced = (at for (kind, _, _), at in last.items() if kind in REDUCTIONS.values())
    return tuple(at for at in (computed, *reduced) if at >= 0)


def _needs(program: Program, kind: Kind, stage: int, part: int) -> tuple[Work, ...]:
    """Return what work waits for: of the same micro-batch, but a bucket for the last backward of its segment."""
    match kind:
        case Kind.SEND_F:
            return tuple(sent_by(program, stage))
        case Kind.SEND_B:
            return tuple(returned_by(program, stage))
        case _ if kind in REDUCTIONS.values():
            segment = program.stages[stage].buckets[part].segment
            return (Kind.B, stage, segment), (Kind.W, stage, segment)
        case Kind.OPTIM:
            buckets = enumerate(program.stages[stage].buckets)
            return (Kind.BARRIER, 0, -1), *((bucket.reduction, stage, index) for index, bucket in buckets)
        case _ if kind in FLOWS:
            # A host computes in order, but goes on while messages are under way.
            computes = STREAM_OF[kind] is Stream.COMPUTE
            works = FLOWS[kind](program, stage, part)
            return tuple(work for work in works if not computes or STREAM_OF[work[0]] is not Stream.COMPUTE)
    return ()
