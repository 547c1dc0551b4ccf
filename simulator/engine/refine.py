"""Colour refinement: which ranks, media and resources cannot be told apart by anything around them.

Two ranks have identical timelines when they are in the same class of an *equitable partition* of the structure made of
ranks, media and resources (Weisfeiler-Leman; Paige and Tarjan 1987). That suffices, for (1) max-min filling sees only
how many flows of each class load a resource, (2) a rendezvous sees only the classes that take part, (3) programs are
equal up to the class of the peer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.engine.processors import NOBODY
from simulator.engine.system import Ints, System

Hashes = NDArray[np.uint64]
"""Colours are random-looking numbers of 64 bits: two that should differ are equal once in some 10^19 pairs."""

_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = np.uint64(0x9E3779B97F4A7C15)
"""Constants of SplitMix64 (Steele, Lea, Flood 2014), a bijection of 64-bit numbers that looks random."""


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
    members, loads, hosted = system.members, system.loads, system.processors != NOBODY
    lanes = _mixed(members.lane)
    weights = _mixed(loads.weight)
    crowded = np.zeros(len(system.capacities), np.int64)
    crowded[system.processors[hosted]] = 1
    colours = Colours(
        ranks=_combined(labels, system.processor_weights),
        media=_combined(system.kinds, system.num_ranks, system.latencies, system.on_one_host),
        resources=_combined(system.capacities, crowded),
    )
    count = 0
    while count < (count := colours.size):
        ranks, media, resources = colours
        media = _mixed(
            media
            + _mixed(_sums(members.medium, _mixed(ranks[members.rank] ^ lanes), len(media)))
            + _sums(loads.medium, _mixed(resources[loads.resource] ^ weights), len(media))
        )
        resources = _mixed(
            resources
            + _mixed(_sums(loads.resource, _mixed(media[loads.medium] ^ weights), len(resources)))
            + _sums(system.processors[hosted], _mixed(ranks[hosted]), len(resources))
        )
        ranks = _mixed(ranks + _sums(members.rank, _mixed(media[members.medium] ^ lanes), len(ranks)))
        ranks[hosted] = _mixed(ranks[hosted] + resources[system.processors[hosted]])
        colours = Colours(ranks, media, resources)
    return colours


def apart(system: System, num_ranks: int) -> Colours:
    """Return colours that are all different."""
    sizes = (num_ranks, system.num_media, len(system.capacities))
    return Colours(*(np.arange(size, dtype=np.uint64) for size in sizes))


def _mixed(values: NDArray[np.generic]) -> Hashes:
    """Return for each value a number that looks random: equal for equal values."""
    bits = values.view(np.uint64) if values.dtype.itemsize == np.uint64().itemsize else values.astype(np.uint64)
    bits = bits + _STEP
    bits ^= bits >> np.uint64(30)
    bits *= _MULTIPLIERS[0]
    bits ^= bits >> np.uint64(27)
    bits *= _MULTIPLIERS[1]
    bits ^= bits >> np.uint64(31)
    return bits


def _combined(*columns: NDArray[np.generic]) -> Hashes:
    """Return a colour for each row of some columns."""
    colours = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        colours = _mixed(colours ^ _mixed(column))
    return colours


def _sums(places: Ints, values: Hashes, size: int) -> Hashes:
    """Return the sum of the values at each place: the colour of a multiset."""
    sums = np.zeros(size, np.uint64)
    np.add.at(sums, places, values)
    return sums


def _distinct(colours: Hashes) -> int:
    """Return how many different colours there are."""
    ordered = np.sort(colours)
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + bool(len(ordered))
