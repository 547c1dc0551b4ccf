"""Whether a program ends: its lanes run without clocks, with rendezvous semantics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from simulator.program.dependencies import dependencies
from simulator.program.instructions import (
    ENDS,
    EXCHANGES_B,
    EXCHANGES_F,
    RECEIVES,
    SENDS,
    SHARED_EXCHANGES,
    STREAM_OF,
    Instruction,
    Kind,
    Lane,
    Stream,
)
from simulator.program.program import Program
from simulator.program.vocabulary_passes import SHARED

RECEIVED = {
    **dict.fromkeys((Kind.F, *EXCHANGES_F), Kind.RECV_F),
    **dict.fromkeys((Kind.B, Kind.I, *EXCHANGES_B), Kind.RECV_B),
}
"""What brings the tensor that is worked on, unless it is there already."""

Row = list[int]
"""Of a channel, for each message whether it is there: `ARRIVED`, or which rank waits for it, counted from 1."""

ARRIVED = -1
"""Mark of a message that was sent, or of a receive that was posted."""


def find_deadlock(program: Program) -> tuple[int, Instruction] | None:
    """Return an instruction that waits for ever, with its pipeline rank; None if there is none.

    Each rank must have every instruction once, after those of its list that it needs, and both ends of a channel must
    agree on the order.
    """
    meets = SHARED in program.placement
    quick = not meets and _runs_in_order(program)
    return None if quick else _find_stuck(program)


def _runs_in_order(program: Program) -> bool:
    """Whether every list ends even if its rank did one thing after the other, and only waited for what it receives.

    Where ranks wait for what they send, a computation waits until the receives of what was sent before are posted. That
    is more than must be, for lanes run side by side. But it is seen quickly, and what the passes make does it.
    """
    blocks = not program.plan.p2p_overlap
    arrived, posted = (defaultdict[tuple[Kind, int], Row](lambda: [0] * program.plan.num_microbatches) for _ in "ab")
    sent: list[list[tuple[Row, int]]] = [[] for _ in program.lists]
    heads = [0] * len(program.lists)
    ready = list(range(len(heads)))
    while ready:
        rank = ready.pop()
        instructions = program.lists[rank]
        for position in range(heads[rank], len(instructions)):
            kind, stage, microbatch, _ = instructions[position]
            if kind in SENDS:
                receive, step = SENDS[kind]
                ready += _mark(arrived[receive, stage + step], microbatch)
                if blocks:
                    sent[rank].append((posted[receive, stage + step], microbatch))
            elif kind in RECEIVES:
                # From now on the stage is known to receive.
                arrived[kind, stage]
                ready += _mark(posted[kind, stage], microbatch)
            elif waits := _missing(arrived, sent[rank], instructions[position]):
                row, message = waits
                row[message] = rank + 1
                heads[rank] = position
                break
        else:
            heads[rank] = len(instructions)
    return all(head == len(instructions) for head, instructions in zip(heads, program.lists, strict=True))


def _missing(
    arrived: Mapping[tuple[Kind, int], Row], sent: list[tuple[Row, int]], instruction: Instruction
) -> tuple[Row, int] | None:
    """Return the place of a message that an instruction waits for; a computation that waits for none ends the wait."""
    kind, stage, microbatch, _ = instruction
    if kind in RECEIVED:
        row = arrived.get((RECEIVED[kind], stage))
        if row and row[microbatch] != ARRIVED:
            return row, microbatch
    if sent and STREAM_OF[kind] is Stream.COMPUTE:
        for row, message in sent:
            if row[message] != ARRIVED:
                return row, message
        sent.clear()
    return None


def _mark(row: Row, microbatch: int) -> list[int]:
    """Note that something is there; return the rank that has waited for it, if one has."""
    waits = row[microbatch] - 1
    row[microbatch] = ARRIVED
    return [waits] if waits >= 0 else []


def _find_stuck(program: Program) -> tuple[int, Instruction] | None:
    """Run the lanes of all ranks without clocks; return an instruction that never comes to its turn."""
    needs = [dependencies(program, instructions) for instructions in program.lists]
    done = [bytearray(len(instructions)) for instructions in program.lists]
    running = [(rank, queue) for rank, instructions in enumerate(program.lists) for queue in _queues(instructions)]
    # Of an exchange that ranks of the pipeline share, each posts its own end.
    posted: set[tuple[int, Instruction]] = set()
    waiting: dict[tuple[int, Instruction], list[tuple[int, list[int]]]] = {}
    while running:
        rank, queue = running.pop()
        while queue:
            position = queue[-1]
            instruction = program.lists[rank][position]
            missing = [_name(rank, program.lists[rank][need]) for need in needs[rank][position] if not done[rank][need]]
            if not missing and instruction.kind in ENDS:
                posted.add(_name(rank, instruction))
                missing = [name for name in (_name(rank, partner_of(instruction)),) if name not in posted]
            elif not missing and instruction.kind in SHARED_EXCHANGES:
                posted.add((rank, instruction))
                missing = [(other, instruction) for other in range(len(done)) if (other, instruction) not in posted]
            # Whoever waits for the other end of a message goes on as soon as that is posted.
            running += waiting.pop(_name(rank, instruction), ())
            if missing:
                waiting.setdefault(missing[0], []).append((rank, queue))
                break
            done[rank][queue.pop()] = 1
    stuck = ((rank, finished.index(0)) for rank, finished in enumerate(done) if not all(finished))
    return next(((rank, program.lists[rank][position]) for rank, position in stuck), None)


def _name(rank: int, instruction: Instruction) -> tuple[int, Instruction]:
    """Return what tells an instruction from all others: those of shared stages stand in the lists of all ranks."""
    return (-1 if instruction.kind in ENDS else rank, instruction)


def _queues(instructions: tuple[Instruction, ...]) -> list[list[int]]:
    """Return the positions that each lane runs, the first at the end of the list."""
    queues: dict[Lane, list[int]] = {}
    for position in reversed(range(len(instructions))):
        queues.setdefault(instructions[position].lane, []).append(position)
    return list(queues.values())


def partner_of(instruction: Instruction) -> Instruction:
    """Return the other end of a send or receive."""
    kind, step = ENDS[instruction.kind]
    return Instruction(kind, instruction.stage + step, instruction.microbatch)
