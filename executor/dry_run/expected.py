"""What the simulator's Program and its costs say that a rank does in a step."""

from __future__ import annotations

from executor.dry_run.account import Account, Entry, Message
from simulator.cost.compute import PASSES, phases
from simulator.cost.memory import peak_memory
from simulator.program.instructions import COLLECTIVE_AXIS, ENDS, EXCHANGES_B, RECEIVES, Instruction, Stream
from simulator.program.liveness import held_after
from simulator.program.program import Program


def expected(program: Program, rank: int) -> Account:
    """Return the account of a rank; raises nothing, for a Program has been verified."""
    place = program.plan.mesh.coordinate(rank, "pp")
    computing = (each for each in program.instructions(rank) if each.stream is Stream.COMPUTE)
    held = dict(zip(computing, held_after(program, place), strict=True))
    entries = {
        instruction: Entry(
            flops=_flops(program, instruction),
            messages=_messages(program, rank, instruction),
            held=held[instruction] if instruction.kind in PASSES else None,
        )
        for instruction in program.instructions(rank)
    }
    memory = peak_memory(program, place)
    terms = {"parameters": memory.params, "gradients": memory.grads, "optimizer state": memory.optimizer_state}
    return Account(rank=rank, entries=entries, memory=terms)


def _flops(program: Program, instruction: Instruction) -> float:
    """Return what the kernels of an instruction compute; what is limited by memory alone counts nothing."""
    if instruction.kind not in PASSES:
        return 0.0
    graph, batch = program.graph, program.plan.microbatch_size
    return sum(
        kernel.flops + kernel.repeated_flops
        for node in program.segment(instruction).nodes
        for phase in phases(graph, node, instruction.kind)
        for kernel in node.layer.kernels(phase, graph.input_shapes(node), batch)
        if kernel.kind != "memory"
    )


def _messages(program: Program, rank: int, instruction: Instruction) -> list[Message]:
    """Return what an instruction sends: nothing where a group is one rank alone."""
    if instruction.kind in COLLECTIVE_AXIS:
        message, axis = program.message(instruction), COLLECTIVE_AXIS[instruction.kind]
        ranks = program.peers(rank, instruction)
        if message.operation == "shift":
            return _shift(message.size, ranks, ranks.index(rank), -1 if instruction.kind in EXCHANGES_B else 1)
        return [Message(operation=message.operation, size=message.size, ranks=ranks, axis=axis)]
    if instruction.kind not in ENDS:
        return []
    message = program.message(instruction)
    (peer,) = (other for other in program.peers(rank, instruction) if other != rank)
    operation = "receive" if instruction.kind in RECEIVES else "send"
    return [Message(operation=operation, size=message.size, ranks=(peer,))]


def _shift(size: float, ranks: tuple[int, ...], place: int, step: int) -> list[Message]:
    """Return the two halves of passing something on around a ring."""
    after, before = (ranks[(place + way) % len(ranks)] for way in (step, -step))
    ends = {"send": after, "receive": before}
    return [Message(operation=name, size=size, ranks=(end,), axis="cp") for name, end in ends.items()]
