"""What both executors have in common: walk this rank's list in order, one handler an instruction kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from executor.lanes import Message, RawSpan, lanes_for
from executor.transport import Transport
from simulator.load import Inputs
from simulator.program.dependencies import dependencies
from simulator.program.instructions import Instruction, Kind, Stream

Handler = Callable[[Instruction], Message | None]


class Interpreter:
    """One rank's part of a plan.

    Parameters
    ----------
    inputs
        What to run; compiled identically by every rank.
    rank
        Global rank.
    transport
        Messages to the others.
    device
        Where to compute.

    Attributes
    ----------
    handlers
        What each kind of instruction does; returns a message if something is under way after it.
    """

    handlers: dict[Kind, Handler]

    def __init__(self, inputs: Inputs, rank: int, transport: Transport, device: torch.device) -> None:
        self.inputs = inputs
        self.program = inputs.program
        self.rank = rank
        self.transport = transport
        self.device = device
        self.instructions = self.program.instructions(rank)
        self.needs = dependencies(self.program, self.instructions)
        self.lanes = lanes_for(device)
        self.step_index = 0

    def step(self, computed: Callable[[], object] | None = None) -> tuple[list[RawSpan], float | None]:
        """Run one step; return its spans and, on ranks that hold the loss, this replica's mean loss.

        ``computed`` is called after each instruction that computes.
        """
        for position, instruction in enumerate(self.instructions):
            action = partial(self.handlers[instruction.kind], instruction)
            self.lanes.launch(position, instruction, self.needs[position], action)
            if computed and instruction.stream is Stream.COMPUTE:
                computed()
        spans = self.lanes.close()
        self.step_index += 1
        return spans, self.take_loss()

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on, in tensors and plain containers."""
        return {"step": self.step_index}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        self.step_index = state["step"]

    def replicated(self) -> dict[tuple[int, ...], list[Tensor]]:
        """Return the parameters that other ranks must hold too, by the ranks that do."""
        return {}

    def take_loss(self) -> float | None:
        """Return the mean loss of the step that has just ended, where this rank has one."""
        return None

    def peer(self, instruction: Instruction) -> int:
        """Return the rank at the other end of a send or receive."""
        return next(peer for peer in self.program.peers(self.rank, instruction) if peer != self.rank)


def border(instruction: Instruction) -> int:
    """Return the number of the border that a message crosses: that of the stage before it."""
    return instruction.stage if instruction.kind in (Kind.SEND_F, Kind.RECV_B) else instruction.stage - 1
