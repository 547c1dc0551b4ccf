"""Prices messages for the engine: alpha-beta over the routes, or measured times where there is a calibration."""

from __future__ import annotations

from simulator.cost.calibration import Calibration
from simulator.cost.collectives import (
    Transfer,
    pairwise_all_to_all,
    ring_all_gather,
    ring_all_reduce,
    ring_reduce_scatter,
    send,
)
from simulator.engine.fold import MediumClass
from simulator.engine.network import Network
from simulator.engine.system import System
from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Program

FORMULAS = {
    "all_reduce": ring_all_reduce,
    "all_gather": ring_all_gather,
    "reduce_scatter": ring_reduce_scatter,
    "all_to_all": pairwise_all_to_all,
    "shift": send,
    "send": send,
}
"""Alpha-beta cost of each operation."""


class MessageCost:
    """Latency and size of each message on each class of media."""

    def __init__(self, program: Program, system: System, network: Network, calibration: Calibration) -> None:
        self._program = program
        self._system = system
        self._network = network
        self._calibration = calibration
        self._transfers: dict[tuple[int, Kind, int, int], Transfer] = {}
        self._seconds: dict[tuple[int, Kind, int, int], float] = {}

    def transfer(self, medium: MediumClass, instruction: Instruction) -> Transfer:
        """Return the cost of an instruction's message."""
        key = (medium.representative, instruction.kind, instruction.stage, instruction.part)
        if key not in self._transfers:
            self._transfers[key] = self._price(medium, instruction)
        return self._transfers[key]

    def seconds(self, medium: MediumClass, instruction: Instruction) -> float:
        """Return the time of the message when all media of its class, and nothing else, are busy."""
        key = (medium.representative, instruction.kind, instruction.stage, instruction.part)
        if key not in self._seconds:
            transfer = self.transfer(medium, instruction)
            moving = transfer.size / self._network.alone(medium.weights, float("inf")) if transfer.size else 0.0
            self._seconds[key] = transfer.latency + moving
        return self._seconds[key]

    def _price(self, medium: MediumClass, instruction: Instruction) -> Transfer:
        message, system = self._program.message(instruction), self._system
        path = system.path(medium.representative)
        modelled = FORMULAS[message.operation](path, message.size)
        if not system.on_one_host[medium.representative]:
            return modelled
        measured = self._calibration.message_seconds(message.operation, path.num_ranks, message.size)
        if measured is None:
            return modelled
        # The smallest message shows what waking threads costs, on cores that others use meanwhile; only what a larger
        # one takes beyond it loads links and cores.
        smallest = self._calibration.message_seconds(message.operation, path.num_ranks, 0.0) or 0.0
        latency = min(smallest, measured)
        weights = system.weights(medium.representative)
        rate = min((float(system.capacities[resource]) / weight for resource, weight in weights.items()), default=0.0)
        return Transfer(latency, (measured - latency) * rate)
