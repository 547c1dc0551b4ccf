"""The interpreter of emulated devices: computing is waiting for the predicted time, messages are real.

So a pipeline can be longer than a machine has cores: what is measured is the order of the work, the messages, and how
both fit together; what is not is the work itself.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from executor.interpreter import Handler, Interpreter, border
from executor.lanes import Message
from executor.transport import Transport
from simulator.cost import Calibration, ComputeCost
from simulator.load import Inputs
from simulator.program.instructions import HOST_LINK, RECEIVES, SENDS, Instruction, Kind, Stream


class _Timer:
    """A copy that is done at a time."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def is_completed(self) -> bool:
        """Return whether it is done."""
        return time.perf_counter() >= self._deadline

    def wait(self) -> None:
        """Wait until it is."""
        time.sleep(max(0.0, self._deadline - time.perf_counter()))


class Emulated(Interpreter):
    """Waits; has no layers, no parameters and no loss."""

    def __init__(self, inputs: Inputs, rank: int, transport: Transport, device: torch.device) -> None:
        super().__init__(inputs, rank, transport, device)
        self.cost = ComputeCost(self.program, inputs.topology.device(rank), Calibration())
        self.handlers = {instruction.kind: self._handler(instruction.kind) for instruction in self.instructions}
        self._buffers: dict[tuple[float, int], Tensor] = {}

    def _handler(self, kind: Kind) -> Handler:
        if kind in SENDS:
            return self._send
        if kind in RECEIVES:
            return self._receive
        if Instruction(kind, 0).stream in HOST_LINK:
            return self._copy
        return self._compute if Instruction(kind, 0).stream is Stream.COMPUTE else self._collective

    def _compute(self, instruction: Instruction) -> None:
        """Wait for the predicted time: asleep, for the messages need the cores, and against a clock."""
        deadline = time.perf_counter() + self.cost.seconds(instruction)
        while (left := deadline - time.perf_counter()) > 0:
            time.sleep(left)

    def _copy(self, instruction: Instruction) -> Message:
        """Let the predicted time of a copy over the host link pass beside what follows."""
        return [_Timer(time.perf_counter() + self.cost.seconds(instruction))], None

    def _send(self, instruction: Instruction) -> Message:
        buffer, peer = self._buffer(instruction), self.peer(instruction)
        return [self.transport.send(instruction.stream, buffer, peer, border(instruction))], None

    def _receive(self, instruction: Instruction) -> Message:
        buffer, peer = self._buffer(instruction), self.peer(instruction)
        return [self.transport.receive(instruction.stream, buffer, peer, border(instruction))], None

    def _collective(self, instruction: Instruction) -> Message:
        stream, ranks = instruction.stream, len(self.program.peers(self.rank, instruction))
        whole = self._buffer(instruction, ranks)
        match self.program.message(instruction).operation:
            case "all_gather":
                return [self.transport.all_gather(stream, whole, whole.chunk(ranks)[0].clone())], None
            case "all_to_all":
                return [self.transport.all_to_all(stream, torch.empty_like(whole), whole)], None
            case "shift":
                return self.transport.shift(stream, torch.empty_like(whole), whole, +1), None
        return [self.transport.all_reduce(stream, whole)], None

    def _buffer(self, instruction: Instruction, parts: int = 1) -> Tensor:
        """Return zeros of a message's size: always the same, for nobody minds what they are or become."""
        key = (self.program.message(instruction).size, parts)
        if key not in self._buffers:
            share = max(1, math.ceil(key[0] / torch.float32.itemsize / parts))
            self._buffers[key] = torch.zeros(share * parts, device=self.device)
        return self._buffers[key]
