"""The executable specification of a Program.

``verify`` proves, for any cluster size at once (all ranks of one pipeline coordinate run one list), that

* every stage runs forward and backward of every micro-batch exactly once, all segments, forward first;
* each send meets its receive, and both ends of a channel agree on the order;
* every bucket is reduced once, after its last backward, and every stage is updated once, after its buckets;
* nothing deadlocks, with rendezvous semantics: a send ends only when its receive is posted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from simulator.errors import ProgramError
from simulator.program.dependencies import dependencies
from simulator.program.instructions import RECEIVES, SENDS, Instruction, Kind, Stream
from simulator.program.program import Program

TABLE_ROWS = 8
"""Instructions shown before and after the faulty one."""


def verify(program: Program) -> None:
    """Raise ProgramError with the table of all ranks, the faulty cell marked, unless the program is sound."""
    for rank in range(len(program.lists)):
        _check_complete(program, rank)
    _check_channels(program)
    _check_progress(program)


def _expected(program: Program, rank: int) -> Iterator[Instruction]:
    """Yield everything that a pipeline rank must do, in no particular order."""
    for stage in program.stages_of(rank):
        for microbatch in range(program.plan.num_microbatches):
            for part, segment in enumerate(stage.segments):
                yield Instruction(Kind.F, stage.index, microbatch, part)
                yield Instruction(Kind.B, stage.index, microbatch, part)
                if segment.parallel:
                    yield Instruction(Kind.ALL_REDUCE_F, stage.index, microbatch, part)
                if segment.reduces_backward:
                    yield Instruction(Kind.ALL_REDUCE_B, stage.index, microbatch, part)
            borders = {
                Kind.RECV_F: stage.receives,
                Kind.SEND_F: stage.sends,
                Kind.RECV_B: stage.gradients_in,
                Kind.SEND_B: stage.gradients_out,
            }
            yield from (Instruction(kind, stage.index, microbatch) for kind, names in borders.items() if names)
        yield from (Instruction(Kind.REDUCE_GRAD, stage.index, part=part) for part in range(len(stage.buckets)))
        yield Instruction(Kind.OPTIM, stage.index)


def _check_complete(program: Program, rank: int) -> None:
    instructions = program.lists[rank]
    found = Counter(instructions)
    expected = Counter(_expected(program, rank))
    where = {instruction: position for position, instruction in enumerate(instructions)}
    for instruction in instructions:
        if instruction not in expected:
            _fail(program, rank, where[instruction], f"{instruction} does not belong on this rank")
        if found[instruction] > 1:
            _fail(program, rank, where[instruction], f"{instruction} appears {found[instruction]} times, must appear once")
    missing = next((instruction for instruction in expected if instruction not in found), None)
    if missing:
        _fail(program, rank, len(instructions) - 1, f"{missing} is missing")
    for position, instruction in enumerate(instructions):
        for before in _precedes(program, instruction):
            if before in where and where[before] > position:
                _fail(program, rank, position, f"{instruction} comes before {before}, which it needs")
    _check_ends(program, rank)


def _precedes(program: Program, instruction: Instruction) -> Iterator[Instruction]:
    """Yield what must stand earlier in the same list."""
    kind, stage, microbatch, part = instruction
    segments = program.stages[stage].segments
    last = len(segments) - 1
    match kind:
        case Kind.F if part > 0:
            yield Instruction(Kind.F, stage, microbatch, part - 1)
            yield Instruction(Kind.ALL_REDUCE_F, stage, microbatch, part - 1)
        case Kind.F:
            yield Instruction(Kind.RECV_F, stage, microbatch)
        case Kind.B if part < last:
            yield Instruction(Kind.B, stage, microbatch, part + 1)
            yield Instruction(Kind.ALL_REDUCE_B, stage, microbatch, part + 1)
        case Kind.B:
            yield Instruction(Kind.F, stage, microbatch, last)
            yield Instruction(Kind.ALL_REDUCE_F, stage, microbatch, last)
            yield Instruction(Kind.RECV_B, stage, microbatch)
        case Kind.ALL_REDUCE_F | Kind.ALL_REDUCE_B:
            yield Instruction(Kind.F if kind is Kind.ALL_REDUCE_F else Kind.B, stage, microbatch, part)
        case Kind.SEND_F:
            yield Instruction(Kind.F, stage, microbatch, last)
            yield Instruction(Kind.ALL_REDUCE_F, stage, microbatch, last)
        case Kind.SEND_B:
            yield Instruction(Kind.B, stage, microbatch, 0)
            yield Instruction(Kind.ALL_REDUCE_B, stage, microbatch, 0)
        case Kind.REDUCE_GRAD:
            segment = program.stages[stage].buckets[part].segment
            for each in range(program.plan.num_microbatches):
                yield Instruction(Kind.B, stage, each, segment)


def _check_ends(program: Program, rank: int) -> None:
    """The update of a stage comes after all its backwards and reductions."""
    instructions = program.lists[rank]
    for position, instruction in enumerate(instructions):
        if instruction.kind is Kind.OPTIM:
            for late in instructions[position + 1 :]:
                if late.stage == instruction.stage and late.kind in (Kind.F, Kind.B, Kind.REDUCE_GRAD):
                    _fail(program, rank, position, f"{instruction} comes before {late}, which it needs")


def _check_channels(program: Program) -> None:
    """Both ends of each channel name the same messages in the same order."""
    for rank, instructions in enumerate(program.lists):
        for kind, (receive, step) in SENDS.items():
            sent = [i for i in instructions if i.kind is kind]
            for stage in {i.stage for i in sent}:
                peer = program.pipeline_rank(stage + step)
                mine = [i.microbatch for i in sent if i.stage == stage]
                theirs = [
                    i.microbatch for i in program.lists[peer] if i.kind is receive and i.stage == stage + step
                ]
                for index, (microbatch, other) in enumerate(zip(mine, theirs, strict=False)):
                    if microbatch != other:
                        culprit = [i for i in sent if i.stage == stage][index]
                        text = f"{culprit} meets {Instruction(receive, stage + step, other)} of rank {peer}"
                        _fail(program, rank, instructions.index(culprit), f"{text}: different micro-batches")


def _check_progress(program: Program) -> None:
    """Run the program without clocks: every instruction must come to its turn."""
    needs = [dependencies(program, instructions) for instructions in program.lists]
    queues = [_queues(instructions) for instructions in program.lists]
    heads = [dict.fromkeys(streams, 0) for streams in queues]
    done: list[set[int]] = [set() for _ in program.lists]
    posted: set[tuple[int, Instruction]] = set()
    moved = True
    while moved:
        moved = False
        for rank, streams in enumerate(queues):
            for stream, queue in streams.items():
                while heads[rank][stream] < len(queue):
                    position = queue[heads[rank][stream]]
                    instruction = program.lists[rank][position]
                    if not all(need in done[rank] for need in needs[rank][position]):
                        break
                    posted.add((rank, instruction))
                    partner = _partner(program, instruction)
                    if partner and partner not in posted:
                        break
                    done[rank].add(position)
                    heads[rank][stream] += 1
                    moved = True
    for rank, instructions in enumerate(program.lists):
        stuck = [position for position in range(len(instructions)) if position not in done[rank]]
        if stuck:
            waiting = instructions[stuck[0]]
            partner = _partner(program, waiting)
            peer = f" for {partner[1]} of rank {partner[0]}" if partner else ""
            _fail(program, rank, stuck[0], f"deadlock: {waiting} waits{peer} for ever")


def _queues(instructions: tuple[Instruction, ...]) -> dict[Stream, list[int]]:
    queues: dict[Stream, list[int]] = {}
    for position, instruction in enumerate(instructions):
        queues.setdefault(instruction.stream, []).append(position)
    return queues


def _partner(program: Program, instruction: Instruction) -> tuple[int, Instruction] | None:
    """Return (pipeline rank, instruction) at the other end of a send or receive."""
    ends = SENDS | RECEIVES
    if instruction.kind not in ends:
        return None
    kind, step = ends[instruction.kind]
    stage = instruction.stage + step
    return program.pipeline_rank(stage), Instruction(kind, stage, instruction.microbatch)


def _fail(program: Program, rank: int, position: int, message: str) -> None:
    raise ProgramError(f"pipeline rank {rank}, instruction {position}: {message}\n{table(program, rank, position)}")


def table(program: Program, rank: int, position: int) -> str:
    """Return the instructions of all pipeline ranks around ``position``, the cell of ``rank`` marked."""
    first = max(0, position - TABLE_ROWS)
    rows = [["", *(f"rank {index}" for index in range(len(program.lists)))]]
    for row in range(first, position + TABLE_ROWS + 1):
        cells = [str(instructions[row]) if row < len(instructions) else "" for instructions in program.lists]
        if row == position:
            cells[rank] += " <-- HERE"
        if any(cells):
            rows.append([str(row), *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
