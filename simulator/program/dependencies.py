"""Which instructions of the same rank must be done before one may start, beyond the order of its own stream.

The rules are the data flow of a training step; they are derived, never stored, so that the text form of a program
says everything.
"""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Program


def dependencies(program: Program, instructions: tuple[Instruction, ...]) -> list[tuple[int, ...]]:
    """Return for each instruction the positions it waits for.

    Only positions in other streams are listed, and only those that a missing instruction does not make void: a
    program with holes is for ``verify`` to find.
    """
    where = {instruction: position for position, instruction in enumerate(instructions)}
    last_backward: dict[Instruction, int] = {}
    result: list[tuple[int, ...]] = []
    for position, instruction in enumerate(instructions):
        if instruction.kind is Kind.B:
            last_backward[instruction.work()] = position
        if instruction.kind is Kind.REDUCE_GRAD:
            segment = program.stages[instruction.stage].buckets[instruction.part].segment
            needed = [last_backward.get(Instruction(Kind.B, instruction.stage, -1, segment))]
        else:
            needed = [where.get(need) for need in _needs(program, instruction)]
        result.append(tuple(position for position in needed if position is not None))
    return result


def _needs(program: Program, instruction: Instruction) -> list[Instruction]:
    kind, stage, microbatch, part = instruction
    segments = program.stages[stage].segments
    last = len(segments) - 1
    match kind:
        case Kind.F:
            if part == 0:
                return [Instruction(Kind.RECV_F, stage, microbatch)]
            return [Instruction(Kind.ALL_REDUCE_F, stage, microbatch, part - 1)] if segments[part - 1].parallel else []
        case Kind.B:
            if part == last:
                needs = [Instruction(Kind.RECV_B, stage, microbatch)]
                return [*needs, Instruction(Kind.ALL_REDUCE_F, stage, microbatch, last)]
            return [Instruction(Kind.ALL_REDUCE_B, stage, microbatch, part + 1)]
        case Kind.ALL_REDUCE_F:
            return [Instruction(Kind.F, stage, microbatch, part)]
        case Kind.ALL_REDUCE_B:
            return [Instruction(Kind.B, stage, microbatch, part)]
        case Kind.SEND_F:
            return [Instruction(k, stage, microbatch, last) for k in (Kind.F, Kind.ALL_REDUCE_F)]
        case Kind.SEND_B:
            return [Instruction(k, stage, microbatch, 0) for k in (Kind.B, Kind.ALL_REDUCE_B)]
        case Kind.OPTIM:
            return [Instruction(Kind.REDUCE_GRAD, stage, part=i) for i in range(len(program.stages[stage].buckets))]
    return []
