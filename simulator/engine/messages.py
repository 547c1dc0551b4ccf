"""Prices messages for the engine: algorithms over their routes, or measured times where there is a calibration."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.cost.calibration import Calibration
from simulator.cost.collectives import Transfer, joined
from simulator.engine.fold import MediumClass
from simulator.engine.network import INFINITE, alone
from simulator.engine.system import System
from simulator.program.coded import Work
from simulator.program.instructions import Instruction
from simulator.program.program import Message, Program


class MessageCost:
    """What each message transfers on each medium.

    Parameters
    ----------
    program, system
        Who sends what, and how.
    capacities
        Units/s of each class of resources.
    calibration
        Measured times.
    """

    def __init__(self, program: Program, system: System, capacities: Sequence[float], calibration: Calibration) -> None:
        self._program = program
        self._system = system
        self._capacities = capacities
        self._calibration = calibration
        self._transfers: dict[tuple[int, Message], tuple[Transfer, ...]] = {}
        self._seconds: dict[tuple[int, Message], float] = {}
        self._messages: dict[Work, Message] = program.keep("messages", dict)

    def transfers(self, medium: int, instruction: Instruction) -> tuple[Transfer, ...]:
        """Return what an instruction's message transfers on a medium, one after the other."""
        key = (medium, self._message(instruction))
        if key not in self._transfers:
            self._transfers[key] = joined(self._price(*key))
        return self._transfers[key]

    def seconds(self, medium: MediumClass, instruction: Instruction) -> float:
        """Return the time of the message when all media of its class, and nothing else, are busy."""
        key = (medium.representative, self._message(instruction))
        if key not in self._seconds:
            transfers = self.transfers(medium.representative, instruction)
            self._seconds[key] = sum(self._alone(medium, each) for each in transfers)
        return self._seconds[key]

    def _message(self, instruction: Instruction) -> Message:
        """Return what an instruction moves, the same for all micro-batches."""
        kind, stage, _, part = instruction
        if (kind, stage, part) not in self._messages:
            self._messages[kind, stage, part] = self._program.message(instruction)
        return self._messages[kind, stage, part]

    def _alone(self, medium: MediumClass, transfer: Transfer) -> float:
        if not transfer.size:
            return transfer.latency
        return transfer.latency + transfer.size / alone(self._capacities, medium.legs[transfer.leg], INFINITE)

    def _price(self, medium: int, message: Message) -> list[Transfer]:
        system = self._system
        modelled = system.transfers(medium, message)
        if not system.on_one_host[medium]:
            return modelled
        num_ranks = system.num_ranks.item(medium)
        measured = self._calibration.message_seconds(message.operation, num_ranks, message.size)
        if measured is None:
            return modelled
        # The smallest message shows what waking threads costs, on cores that others use meanwhile; only what a larger
        # one takes beyond it loads links and cores, those of the leg that carries the most.
        smallest = self._calibration.message_seconds(message.operation, num_ranks, 0.0) or 0.0
        latency = min(smallest, measured)
        leg = max(modelled, key=lambda transfer: transfer.size).leg
        weights = system.weights(medium, leg)
        rate = min((float(system.capacities[resource]) / weight for resource, weight in weights.items()), default=0.0)
        return [Transfer(latency, (measured - latency) * rate, leg)]
