"""The simulated system: ranks, the media over which they communicate, and the resources that media and ranks share.

A hundred thousand ranks have a million hops, so everything is in arrays: tables whose rows are memberships and loads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collectives import Path
from simulator.engine.processors import Processors, find_processors, unit_weights
from simulator.program.instructions import STREAMS_OF_GROUPS, Lane, Stream
from simulator.program.program import Program
from simulator.topology import Topology

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Members(NamedTuple):
    """Who uses which medium; rows in order of the medium.

    Parameters
    ----------
    medium, rank
        Numbers.
    lane
        Position in ``System.lanes`` of the lane in which the rank uses the medium.
    """

    medium: Ints
    rank: Ints
    lane: Ints


class Loads(NamedTuple):
    """What media load; rows in order of the medium, each pair of medium and resource once.

    Parameters
    ----------
    medium, resource
        Numbers.
    weight
        Load of one unit/s of flow.
    """

    medium: Ints
    resource: Ints
    weight: Floats


@dataclass(frozen=True, slots=True, eq=False)
class System:
    """Everything that takes part in a step. A medium is a process group or a channel between two ranks.

    Parameters
    ----------
    lanes
        Lanes that use media.
    kinds
        For each medium the position in ``tuple(Stream)`` of its stream: of a channel, the sender's.
    num_ranks
        For each medium how many ranks it joins.
    latencies
        For each medium the seconds of its slowest hop.
    on_one_host
        For each medium whether all members share a machine.
    members, loads
        Who uses it, and what it uses.
    capacities
        Units/s of each resource: bytes/s of a link, seconds/s of a processor.
    processors
        For each rank the resource that its computing shares: its host's cores, or its own device where messages slow
        it down; ``NOBODY`` where they do not.
    processor_weights
        For each rank the processor-seconds of a unit of its computing. Units are bytes: what a message moves meanwhile,
        so that computing and communicating threads compete for cores as equals, and no computing holds up a message.
    """

    lanes: tuple[Lane, ...]
    kinds: Ints
    num_ranks: Ints
    latencies: Floats
    on_one_host: NDArray[np.bool_]
    members: Members
    loads: Loads
    capacities: Floats
    processors: Ints
    processor_weights: Floats

    @property
    def num_media(self) -> int:
        """Number of media."""
        return len(self.kinds)

    def weights(self, medium: int) -> dict[int, float]:
        """Return resource -> load of one unit/s of flow on a medium."""
        first, end = np.searchsorted(self.loads.medium, (medium, medium + 1))
        rows = slice(first, end)
        return dict(zip(self.loads.resource[rows].tolist(), self.loads.weight[rows].tolist(), strict=True))

    def path(self, medium: int) -> Path:
        """Return a medium as the formulas of collectives see it; its loads go by resource."""
        loads = {resource: round(weight) for resource, weight in self.weights(medium).items()}
        return Path(int(self.num_ranks[medium]), float(self.latencies[medium]), loads)


class _Family(NamedTuple):
    """Media of one kind: ranks in a matrix, one row a medium, with the lane of each column."""

    kind: Stream
    ranks: Ints
    lanes: tuple[Lane, ...]
    is_ring: bool


def build_system(program: Program, topology: Topology) -> System:
    """Return the system that a program and a topology make."""
    families = [family for family in (*_groups(program), *_channels(program)) if len(family.ranks)]
    numbers: dict[Lane, int] = {}
    members, latencies, loads = [], [], []
    first = 0
    for family in families:
        count, size = family.ranks.shape
        lanes = np.array([numbers.setdefault(lane, len(numbers)) for lane in family.lanes])
        media = np.arange(first, first + count)
        members.append(Members(np.repeat(media, size), family.ranks.ravel(), np.tile(lanes, count)))
        latency, load = _routed(family, topology, first)
        latencies.append(latency)
        loads.append(load)
        first += count
    streams = list(Stream)
    kinds = [np.full(len(family.ranks), streams.index(family.kind)) for family in families]
    sizes = [np.full(len(family.ranks), family.ranks.shape[1]) for family in families]
    return _with_resources(
        topology,
        lanes=tuple(numbers),
        kinds=_joined(kinds, np.int64),
        num_ranks=_joined(sizes, np.int64),
        latencies=_joined(latencies, np.float64),
        members=Members(*(_joined(column, np.int64) for column in zip(*members, strict=True)) if members else _NONE),
        crossed=Loads(
            _joined((load.medium for load in loads), np.int64),
            _joined((load.resource for load in loads), np.int64),
            _joined((load.weight for load in loads), np.float64),
        ),
    )


_NONE = (np.zeros(0, np.int64),) * 3
"""Columns of a table without rows."""


def _joined(parts: Iterable[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])


def _groups(program: Program) -> Iterable[_Family]:
    """Yield the process groups that the program uses."""
    for stream, axis in STREAMS_OF_GROUPS.items():
        groups = program.group_table(axis)
        if stream in program.streams and groups.shape[1] > 1:
            yield _Family(stream, groups, ((stream, -1),) * groups.shape[1], True)


def _channels(program: Program) -> Iterable[_Family]:
    """Yield the channels between each stage and the next one, there and back."""
    mesh = program.plan.mesh
    for stage in program.stages:
        here, there = stage.index, stage.index + 1
        if not stage.sends or program.hands_over(here, there):
            continue
        place = program.pipeline_rank(here)
        ranks = mesh.ranks_at("pp", place)
        after = ranks + (program.pipeline_rank(there) - place) * mesh.stride("pp")
        forward = ((Stream.SEND_F, here), (Stream.RECV_F, there))
        backward = ((Stream.SEND_B, there), (Stream.RECV_B, here))
        yield _Family(Stream.SEND_F, np.stack([ranks, after], axis=1), forward, False)
        yield _Family(Stream.SEND_B, np.stack([after, ranks], axis=1), backward, False)


def _routed(family: _Family, topology: Topology, first: int) -> tuple[Floats, Loads]:
    """Return the latency of each medium's slowest hop, and the links that it crosses, by their ids.

    In a ring each rank sends to the next, all at once; over a channel the first sends to the second.
    """
    count, size = family.ranks.shape
    hops = size if family.is_ring else 1
    destinations = np.roll(family.ranks, -1, axis=1)[:, :hops]
    routes = topology.routes(family.ranks[:, :hops].ravel(), destinations.ravel())
    latencies = routes.latencies.reshape(count, hops).max(axis=1)
    crossed = np.repeat(np.repeat(np.arange(count), hops), np.diff(routes.indptr))
    if not family.is_ring:
        return latencies, Loads(first + crossed, routes.links, np.ones(len(crossed)))
    # Two hops of a ring may cross one link.
    keys, times = np.unique(crossed * len(topology.links) + routes.links, return_counts=True)
    medium, link = np.divmod(keys, len(topology.links))
    return latencies, Loads(first + medium, link, times.astype(np.float64))


def _with_resources(
    topology: Topology,
    *,
    lanes: tuple[Lane, ...],
    kinds: Ints,
    num_ranks: Ints,
    latencies: Floats,
    members: Members,
    crossed: Loads,
) -> System:
    """Number the links in use and the processors; load them."""
    in_use = np.zeros(len(topology.links), dtype=bool)
    in_use[crossed.resource] = True
    links = np.flatnonzero(in_use)
    numbers = np.cumsum(in_use) - 1
    loads = Loads(crossed.medium, numbers[crossed.resource], crossed.weight)
    capacities = topology.bandwidths(links)
    rates = np.full(len(kinds), np.inf)
    np.minimum.at(rates, loads.medium, capacities[loads.resource] / loads.weight)
    nodes = np.fromiter(map(topology.node, range(topology.world_size)), np.int64, topology.world_size)
    processors = find_processors(topology, nodes, first=len(capacities))
    capacities = np.concatenate([capacities, processors.capacities])
    if len(processors.capacities):
        loads = _with_processors(loads, members, processors, capacities, rates)
    return System(
        lanes=lanes,
        kinds=kinds,
        num_ranks=num_ranks,
        latencies=latencies,
        on_one_host=_on_one_host(members, nodes, len(kinds)),
        members=members,
        loads=loads,
        capacities=capacities,
        processors=processors.of,
        processor_weights=unit_weights(processors, fastest=float(max(1.0, rates.max(initial=0.0)))),
    )


def _with_processors(
    loads: Loads, members: Members, processors: Processors, capacities: Floats, rates: Floats
) -> Loads:
    """Add the processors that serve messages.

    A message that has its host to itself runs at its measured speed, however many threads serve it.
    """
    used = processors.of[members.rank]
    rows = used >= 0
    keys, pair = np.unique(members.medium[rows] * len(capacities) + used[rows], return_inverse=True)
    medium, processor = np.divmod(keys, len(capacities))
    taken = np.zeros(len(keys))
    np.add.at(taken, pair, processors.shares[members.rank[rows]])
    weight = np.minimum(taken, capacities[processor]) / rates[medium]
    columns = [np.concatenate(column) for column in zip(loads, (medium, processor, weight), strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Loads(*(column[order] for column in columns))


def _on_one_host(members: Members, nodes: Ints, num_media: int) -> NDArray[np.bool_]:
    lowest, highest = np.full(num_media, len(nodes)), np.full(num_media, -1)
    np.minimum.at(lowest, members.medium, nodes[members.rank])
    np.maximum.at(highest, members.medium, nodes[members.rank])
    result: NDArray[np.bool_] = lowest == highest
    return result
