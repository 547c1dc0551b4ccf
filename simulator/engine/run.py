"""The SimPy interpreter of a Program: one callback walker a stream, rendezvous by counting."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial

import simpy

from simulator.cost.calibration import Calibration
from simulator.cost.compute import ComputeCost
from simulator.engine.fold import Folded, MediumClass, RankClass, fold
from simulator.engine.messages import MessageCost
from simulator.engine.network import Network
from simulator.engine.system import build_system
from simulator.program.dependencies import dependencies
from simulator.program.instructions import SENDS, Instruction, Stream
from simulator.program.program import Program
from simulator.results.timeline import Span, Timeline
from simulator.topology import Device, Topology


def simulate(
    program: Program, topology: Topology, calibration: Calibration, *, folding: bool = True
) -> tuple[Timeline, ComputeCost]:
    """Predict one training step.

    Parameters
    ----------
    program
        The compiled plan.
    topology
        Where it runs.
    calibration
        Measured times, possibly none.
    folding
        Simulate one of each class of identical ranks; False simulates all.

    Returns
    -------
    Timeline
        Starts at 0 with all ranks ready.
    ComputeCost
        Prices on rank 0's device, and how many of them were measured.
    """
    system = build_system(program, topology)
    mesh = program.plan.mesh
    devices = [topology.device(rank) for rank in range(mesh.world_size)]
    labels = [(mesh.coordinate(rank, "pp"), device_key(device)) for rank, device in enumerate(devices)]
    folded = fold(system, labels, folding)
    costs = {device_key(device): ComputeCost(program, device, calibration) for device in devices}
    run = _Run(program, folded, [costs[device_key(devices[c.representative])] for c in folded.ranks])
    run.messages = MessageCost(program, system, run.network, calibration)
    timeline = run.timeline()
    return timeline, costs[device_key(devices[0])]


def device_key(device: Device) -> tuple[str, float]:
    """Return what tells devices of one topology apart: kind and speed."""
    return (device.kind, device.speed)


class _Walker:
    """One stream of one rank class: runs its instructions in order, each when its dependencies are done."""

    __slots__ = ("head", "queue")

    def __init__(self) -> None:
        self.queue: list[int] = []
        self.head = 0


class _Rank:
    """State of one rank class."""

    __slots__ = ("cost", "done", "fold", "instructions", "issued", "needs", "waiting", "walkers")

    def __init__(self, program: Program, rank_class: RankClass, cost: ComputeCost, needs: list[tuple[int, ...]]) -> None:
        self.fold = rank_class
        self.cost = cost
        self.instructions = program.instructions(rank_class.representative)
        self.needs = needs
        self.done = bytearray(len(self.instructions))
        self.issued = [0.0] * len(self.instructions)
        self.waiting: dict[int, list[_Walker]] = {}
        self.walkers: dict[Stream, _Walker] = {}
        for position, instruction in enumerate(self.instructions):
            self.walkers.setdefault(instruction.stream, _Walker()).queue.append(position)


class _Run:
    """One simulated step."""

    messages: MessageCost

    def __init__(self, program: Program, folded: Folded, costs: list[ComputeCost]) -> None:
        self.program = program
        self.folded = folded
        self.env = simpy.Environment()
        self.network = Network(self.env, list(folded.capacities))
        self.spans: list[Span] = []
        self.meetings: dict[tuple[int, Instruction], list[tuple[_Rank, _Walker, int]]] = {}
        needs = [dependencies(program, instructions) for instructions in program.lists]
        coordinate = program.plan.mesh.coordinate
        self.ranks = [
            _Rank(program, c, cost, needs[coordinate(c.representative, "pp")])
            for c, cost in zip(folded.ranks, costs, strict=True)
        ]

    def timeline(self) -> Timeline:
        """Run to the end and return what happened."""
        # The cyclic collector would walk a growing heap of live spans again and again.
        collecting = gc.isenabled()
        gc.disable()
        try:
            for rank in self.ranks:
                for walker in rank.walkers.values():
                    self.advance(rank, walker)
            self.env.run()
        finally:
            if collecting:
                gc.enable()
        for rank in self.ranks:
            assert all(rank.done), f"rank {rank.fold.representative} did not finish; verify() should have found out"
        return Timeline(
            source="predicted",
            begin=0.0,
            end=max((span.end for span in self.spans), default=0.0),
            spans=tuple(self.spans),
            ranks={rank.fold.representative: rank.fold.members for rank in self.ranks},
        )

    def advance(self, rank: _Rank, walker: _Walker) -> None:
        """Start the next instruction of a stream if nothing is missing for it."""
        if walker.head == len(walker.queue):
            return
        position = walker.queue[walker.head]
        for need in rank.needs[position]:
            if not rank.done[need]:
                rank.waiting.setdefault(need, []).append(walker)
                return
        rank.issued[position] = self.env.now
        instruction = rank.instructions[position]
        if instruction.stream is Stream.COMPUTE:
            self.compute(rank, walker, position, instruction)
        else:
            self.communicate(rank, walker, position, instruction)

    def compute(self, rank: _Rank, walker: _Walker, position: int, instruction: Instruction) -> None:
        """Occupy the device, or a share of the host's cores."""
        seconds = rank.cost.seconds(instruction)
        finish = partial(self.finish, rank, walker, position, self.env.now)
        weights = rank.fold.core_weights
        if not weights or not seconds:
            self.after(seconds, finish)
            return
        # One thread is never faster than one core: that rate is 1 / weight of a single rank.
        speed = self.messages.core_speed
        self.network.start(weights, seconds * speed, speed, finish)

    def communicate(self, rank: _Rank, walker: _Walker, position: int, instruction: Instruction) -> None:
        """Meet the other participants; the last one to come starts the message."""
        index = rank.fold.media[instruction.stream]
        medium = self.folded.media[index]
        key = (index, _meeting(instruction))
        present = self.meetings.setdefault(key, [])
        present.append((rank, walker, position))
        if len(present) < medium.participants:
            return
        del self.meetings[key]
        start = self.env.now

        def arrived() -> None:
            for other, its_walker, its_position in present:
                self.finish(other, its_walker, its_position, start)

        self.transfer(medium, instruction, arrived)

    def transfer(self, medium: MediumClass, instruction: Instruction, arrived: Callable[[], None]) -> None:
        """Let latency pass, then move the bytes."""
        transfer = self.messages.transfer(medium, instruction)
        if not transfer.size:
            self.after(transfer.latency, arrived)
        elif medium.private:
            self.after(transfer.latency + transfer.size / self.network.alone(medium.weights, float("inf")), arrived)
        else:
            start = partial(self.network.start, medium.weights, transfer.size, float("inf"), arrived)
            self.after(transfer.latency, start)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call back when ``seconds`` have passed."""
        self.env.timeout(seconds).callbacks.append(lambda _: call())

    def finish(self, rank: _Rank, walker: _Walker, position: int, start: float) -> None:
        """Record the span and let those go on that waited for it."""
        instruction = rank.instructions[position]
        self.spans.append(
            Span(rank.fold.representative, instruction, rank.issued[position], start, self.env.now)
        )
        rank.done[position] = 1
        walker.head += 1
        self.advance(rank, walker)
        for other in rank.waiting.pop(position, ()):
            self.advance(rank, other)


def _meeting(instruction: Instruction) -> Instruction:
    """Return one name for both ends of a message: the sender's."""
    for send, (receive, step) in SENDS.items():
        if instruction.kind is receive:
            return instruction._replace(kind=send, stage=instruction.stage - step)
    return instruction
