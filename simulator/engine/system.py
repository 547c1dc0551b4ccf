"""The simulated system: ranks, the media over which they communicate, and the resources that media and ranks share.

A hundred thousand ranks have a million hops, so everything is in arrays: tables whose rows are memberships and loads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.cost.collectives import Transfer
from simulator.engine.families import Family, find_families
from simulator.engine.legs import Floats, Ints, Legs, Loads, Recipe, Routed, find_legs, rows_of
from simulator.engine.processors import Processors, find_processors, unit_weights
from simulator.program.instructions import Lane, Stream
from simulator.program.program import Message, Program
from simulator.topology import Topology


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
    recipes, recipe
        Ways to send messages, and for each medium which of them is its own.
    on_one_host
        For each medium whether all members share a machine.
    members
        Who uses it.
    legs, loads
        In which patterns its members send, and what each of them uses.
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
    recipes: tuple[Recipe, ...]
    recipe: Ints
    on_one_host: NDArray[np.bool_]
    members: Members
    legs: Legs
    loads: Loads
    capacities: Floats
    processors: Ints
    processor_weights: Floats

    @property
    def num_media(self) -> int:
        """Number of media."""
        return len(self.kinds)

    def weights(self, medium: int, number: int) -> dict[int, float]:
        """Return resource -> load of one unit/s of flow on a leg of a medium."""
        leg = int(np.searchsorted(self.legs.medium, medium)) + number
        rows = slice(*np.searchsorted(self.loads.leg, (leg, leg + 1)))
        return dict(zip(self.loads.resource[rows].tolist(), self.loads.weight[rows].tolist(), strict=True))

    def transfers(self, medium: int, message: Message) -> list[Transfer]:
        """Return what a message costs on a medium, phase after phase."""
        first = int(np.searchsorted(self.legs.medium, medium))
        return [
            Transfer(charge.latency(self.legs.latency.item(first + number)), charge.size, number)
            for number, charge in self.recipes[self.recipe.item(medium)][message]
        ]


def build_system(program: Program, topology: Topology) -> System:
    """Return the system that a program and a topology make."""
    return system_of(find_families(program), topology)


def system_of(families: Sequence[Family], topology: Topology) -> System:
    """Return the system of some media on a topology."""
    numbers: dict[Lane, int] = {}
    members = []
    first = 0
    for family in families:
        count, size = family.ranks.shape
        lanes = np.array([numbers.setdefault(lane, len(numbers)) for lane in family.lanes])
        media = np.arange(first, first + count)
        members.append(Members(np.repeat(media, size), family.ranks.ravel(), np.tile(lanes, count)))
        first += count
    streams = list(Stream)
    kinds = [np.full(len(family.ranks), streams.index(family.stream)) for family in families]
    sizes = [np.full(len(family.ranks), family.ranks.shape[1]) for family in families]
    return _with_resources(
        topology,
        lanes=tuple(numbers),
        kinds=_joined(kinds),
        num_ranks=_joined(sizes),
        members=Members(*(_joined(column) for column in zip(*members, strict=True)) if members else _NONE),
        routed=find_legs(topology, families),
    )


_NONE = (np.zeros(0, np.int64),) * 3
"""Columns of a table without rows."""


def _joined(parts: Iterable[NDArray[Any]]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _with_resources(
    topology: Topology, *, lanes: tuple[Lane, ...], kinds: Ints, num_ranks: Ints, members: Members, routed: Routed
) -> System:
    """Number the links in use and the processors; load them."""
    in_use = np.zeros(len(topology.links), dtype=bool)
    in_use[routed.loads.resource] = True
    links = np.flatnonzero(in_use)
    loads = routed.loads._replace(resource=(np.cumsum(in_use) - 1)[routed.loads.resource])
    capacities = topology.bandwidths(links)
    rates = np.full(len(routed.legs.medium), np.inf)
    np.minimum.at(rates, loads.leg, capacities[loads.resource] / loads.weight)
    _, nodes, _ = topology.places(np.arange(topology.world_size))
    processors = find_processors(topology, nodes, first=len(capacities))
    capacities = np.concatenate([capacities, processors.capacities])
    if len(processors.capacities):
        loads = _with_processors(routed.legs, loads, members, processors, capacities, rates)
    return System(
        lanes=lanes,
        kinds=kinds,
        num_ranks=num_ranks,
        recipes=routed.recipes,
        recipe=routed.recipe,
        on_one_host=_on_one_host(members, nodes, len(kinds)),
        members=members,
        legs=routed.legs,
        loads=loads,
        capacities=capacities,
        processors=processors.of,
        processor_weights=unit_weights(processors, fastest=float(max(1.0, rates[rates < np.inf].max(initial=0.0)))),
    )


def _with_processors(
    legs: Legs, loads: Loads, members: Members, processors: Processors, capacities: Floats, rates: Floats
) -> Loads:
    """Add the processors that serve messages, whichever leg these are on.

    A message that has its host to itself runs at its measured speed, however many threads serve it.
    """
    used = processors.of[members.rank]
    rows = used >= 0
    keys, pair = np.unique(members.medium[rows] * len(capacities) + used[rows], return_inverse=True)
    medium, processor = np.divmod(keys, len(capacities))
    taken = np.zeros(len(keys))
    np.add.at(taken, pair, processors.shares[members.rank[rows]])
    # Each pair of medium and processor once for each leg of the medium in which bytes flow.
    pair, leg = rows_of(legs.medium, medium)
    flows = rates[leg] < np.inf
    pair, leg = pair[flows], leg[flows]
    weight = np.minimum(taken, capacities[processor])[pair] / rates[leg]
    columns = [np.concatenate(column) for column in zip(loads, (leg, processor[pair], weight), strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Loads(*(column[order] for column in columns))


def _on_one_host(members: Members, nodes: Ints, num_media: int) -> NDArray[np.bool_]:
    lowest, highest = np.full(num_media, len(nodes)), np.full(num_media, -1)
    np.minimum.at(lowest, members.medium, nodes[members.rank])
    np.maximum.at(highest, members.medium, nodes[members.rank])
    result: NDArray[np.bool_] = lowest == highest
    return result
