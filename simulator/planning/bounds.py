"""What no schedule can beat and what any schedule beats: speed of light <= predicted <= serial, in seconds.

Neither looks at the timeline's order, so that both can contradict it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from simulator.cost import Calibration, ComputeCost
from simulator.engine.hashes import combined, sums
from simulator.engine.legs import Floats, Ints, rows_of
from simulator.engine.messages import MessageCost
from simulator.engine.run import device_key, kept_system
from simulator.engine.system import System
from simulator.planning.places import places
from simulator.program.instructions import ALONE, RECEIVES, Instruction, Lane, Stream
from simulator.program.program import Program
from simulator.results.metrics import Metrics
from simulator.results.timeline import Timeline
from simulator.topology import Topology


def executed_flops(program: Program, cost: ComputeCost) -> list[float]:
    """Return for each pipeline coordinate the matrix-product FLOPs that one of its ranks executes in a step."""
    return [
        sum(cost.flops(work) * times for work, times in _works(program, coordinate).items())
        for coordinate in range(len(program.lists))
    ]


def speed_of_light(program: Program, topology: Topology, flops: list[float], metrics: Metrics) -> float:
    """Return the time of the busiest rank's matrix products at the dense peak, everything else being free.

    A machine may turn out faster than the peak that its topology file states; then the predicted compute time of that
    rank, which rests on measured layers, is the bound.
    """
    plan = program.plan
    return max(
        min(
            flops[plan.mesh.coordinate(rank.rank, "pp")]
            / (topology.device(rank.rank).peak[plan.dtype] * topology.device(rank.rank).speed),
            rank.compute_time,
        )
        for rank in metrics.per_rank
    )


def serial(program: Program, topology: Topology, calibration: Calibration) -> float:
    """Return the time of a step in which nothing overlaps.

    One pipeline coordinate after the other runs its instructions one by one. Replicas run side by side, in step: each
    instruction takes as long as on the slowest of them, with all of them on the links and the cores at once.
    """
    messages = _Messages(program, topology, calibration)
    computes = _Computes(program, topology, calibration)
    return sum(
        times * (computes.seconds(coordinate, work) if work.stream in ALONE else messages.seconds(coordinate, work))
        for coordinate in range(len(program.lists))
        for work, times in _works(program, coordinate).items()
        if work.kind not in RECEIVES  # the same message as its send
    )


def longest_compute(program: Program, timeline: Timeline) -> float:
    """Return the time of all computation if replicas did it in step: each instruction as long as on the slowest.

    Times that vary make this longer than their means do, and a serial step with it.
    """
    longest: dict[tuple[int, Instruction], float] = defaultdict(float)
    for span in timeline.spans:
        if span.instruction.stream is Stream.COMPUTE:
            key = (program.plan.mesh.coordinate(span.rank, "pp"), span.instruction)
            longest[key] = max(longest[key], span.end - span.start)
    return sum(longest.values())


def _works(program: Program, coordinate: int) -> Counter[Instruction]:
    """Return how often each kind of work is done: all micro-batches do the same."""
    return program.works(coordinate)


class _Computes:
    """Times of F, B and OPTIM with all replicas of a pipeline coordinate computing at once."""

    def __init__(self, program: Program, topology: Topology, calibration: Calibration) -> None:
        found = places(program, topology)
        sharing: Counter[tuple[int, int]] = Counter()
        for place in found:
            sharing[place.coordinate, place.node] += place.num_ranks
        self._costs: dict[tuple[str, float], ComputeCost] = {}
        self._slowdowns: dict[int, dict[tuple[str, float], float]] = defaultdict(dict)
        for place in found:
            device, cores = topology.device(place.rank), topology.hosts[place.node].cores
            key = device_key(device)
            if key not in self._costs:
                self._costs[key] = ComputeCost(program, device, calibration)
            slowdown = max(1.0, sharing[place.coordinate, place.node] / cores) if cores else 1.0
            known = self._slowdowns[place.coordinate]
            known[key] = max(known.get(key, 1.0), slowdown)

    def seconds(self, coordinate: int, work: Instruction) -> float:
        """Return the time on the slowest rank at a pipeline coordinate."""
        # At worst the device waits for every launch.
        return max(
            self._costs[key].seconds(work) * factor + self._costs[key].host_seconds(work)
            for key, factor in self._slowdowns[coordinate].items()
        )


class _Messages:
    """Times of messages with all media that serve the same lane of the same pipeline coordinate busy at once."""

    def __init__(self, program: Program, topology: Topology, calibration: Calibration) -> None:
        self._system = kept_system(program, topology)
        self._cost = MessageCost(program, self._system, self._system.capacities.tolist(), calibration)
        self._media: dict[tuple[int, Lane], list[tuple[int, Floats]]] = {}
        members, lanes = self._system.members, self._system.lanes
        keys, place = np.unique(
            program.plan.mesh.along("pp")[members.rank] * len(lanes) + members.lane, return_inverse=True
        )
        rows = np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
        for key, used in zip(keys.tolist(), rows, strict=False):
            coordinate, lane = divmod(key, len(lanes))
            together = np.unique(members.medium[used])
            self._media[coordinate, lanes[lane]] = list(_distinct(self._system, together))

    def seconds(self, coordinate: int, work: Instruction) -> float:
        """Return the time of the slowest of the messages that a pipeline coordinate's ranks send at once."""
        return max(
            sum(
                each.latency + (each.size / rates.item(each.leg) if each.size else 0.0)
                for each in self._cost.transfers(medium, work)
            )
            for medium, rates in self._media[coordinate, work.lane]
        )


def _distinct(system: System, media: Ints) -> Iterator[tuple[int, Floats]]:
    """Yield media that differ, each with the rates of its legs when all of them are busy at once."""
    legs, loads = system.legs, system.loads
    whose, leg = rows_of(legs.medium, media)
    place, rows = rows_of(loads.leg, leg)
    resource, weight = loads.resource[rows], loads.weight[rows]
    # The others may be on any of their legs.
    pairs, pair = np.unique(whose[place] * len(system.capacities) + resource, return_inverse=True)
    most = np.zeros(len(pairs))
    np.maximum.at(most, pair, weight)
    totals = np.bincount(pairs % len(system.capacities), most, len(system.capacities))
    alone, together = np.full((2, len(leg)), np.inf)
    np.minimum.at(alone, place, system.capacities[resource] / weight)
    np.minimum.at(together, place, system.capacities[resource] / (totals[resource] - most[pair] + weight))
    # Everything by which a message on a medium is priced.
    looks = combined(system.num_ranks[media], system.recipe[media], system.on_one_host[media])
    looks += sums(whose, combined(legs.number[leg], legs.latency[leg], alone, together), len(media))
    for index in np.unique(looks, return_index=True)[1].tolist():
        yield media.item(index), together[whose == index]
