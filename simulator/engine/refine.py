"""Colour refinement: which ranks, media and resources cannot be told apart by anything around them.

Two ranks have identical timelines when they are in the same class of an *equitable partition* of the structure made of
ranks, media and resources (Weisfeiler-Leman; Paige and Tarjan 1987). That suffices, for (1) max-min filling sees only
how many flows of each class load a resource on which of their legs, (2) a rendezvous sees only the classes that take
part, (3) programs are equal up to the class of the peer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.engine.hashes import Hashes, combined, mixed, sums
from simulator.engine.legs import Ints
from simulator.engine.processors import NOBODY
from simulator.engine.system import System


class Colours(NamedTuple):
    """A colour for each rank, medium and resource."""

    ranks: Hashes
    media: Hashes
    resources: Hashes

    @property
    def size(self) -> int:
        """Number of classes."""
        return sum(_distinct(colours) for colours in self)


def refine(system: System, labels: Ints) -> Colours:
    """Split classes until no member can be told from another by its neighbours.

    Parameters
    ----------
    system
        Ranks, media and resources.
    labels
        For each rank a number for what it runs and on what.
    """
    members, legs, loads, hosted = system.members, system.legs, system.loads, system.processors != NOBODY
    lanes = mixed(members.lane)
    medium_of_load = legs.medium[loads.leg]
    weights = mixed(mixed(loads.weight) ^ mixed(legs.number[loads.leg]))
    crowded = np.zeros(len(system.capacities), np.int64)
    crowded[system.processors[hosted]] = 1
    latencies = sums(legs.medium, combined(legs.number, legs.latency), system.num_media)
    colours = Colours(
        ranks=combined(labels, system.processor_weights),
        media=combined(system.kinds, system.num_ranks, system.recipe, system.on_one_host, latencies),
        resources=combined(system.capacities, crowded),
    )
    # Colours look random, and so do the numbers of lanes and weights: of two such numbers the product will do.
    count = 0
    while count < (count := colours.size):
        ranks, media, resources = colours
        media = mixed(
            media
            + mixed(sums(members.medium, ranks[members.rank] * lanes, len(media)))
            + sums(medium_of_load, resources[loads.resource] * weights, len(media))
        )
        resources = mixed(
            resources
            + mixed(sums(loads.resource, media[medium_of_load] * weights, len(resources)))
            + sums(system.processors[hosted], mixed(ranks[hosted]), len(resources))
        )
        ranks = mixed(ranks + sums(members.rank, media[members.medium] * lanes, len(ranks)))
        ranks[hosted] = mixed(ranks[hosted] + resources[system.processors[hosted]])
        colours = Colours(ranks, media, resources)
    return colours


def apart(system: System, num_ranks: int) -> Colours:
    """Return colours that are all different."""
    sizes = (num_ranks, system.num_media, len(system.capacities))
    return Colours(*(np.arange(size, dtype=np.uint64) for size in sizes))


def _distinct(colours: Hashes) -> int:
    """Return how many different colours there are."""
    # A stable sort is fast where equal colours stand together, as those of replicas do.
    ordered = np.sort(colours, kind="stable")
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + bool(len(ordered))
