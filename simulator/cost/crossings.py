"""Which links hops cross, how often, and how long the slowest hop takes: of one group, or of all groups at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.cost.algorithms import Phase
from simulator.topology import Topology

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

CHUNK = 2**16
"""Hops that are routed in one go: what they cross fits into a cache."""

DENSE = 4
"""A count for each key there may be is cheaper than sorting while it has no more than so many times the keys."""


class Hops(NamedTuple):
    """Hops between members of a group, or between ranks; each pair once.

    Parameters
    ----------
    sources, destinations
        Positions in the group, or ranks.
    times
        How often each is there; 0 where only its latency counts.
    """

    sources: Ints
    destinations: Ints
    times: Ints


class Crossings(NamedTuple):
    """Links that hops cross; rows in order of their owner, each pair of owner and link once.

    Parameters
    ----------
    owner, link
        Numbers.
    weight
        How many hops cross the link.
    """

    owner: Ints
    link: Ints
    weight: Ints


def hops_of(phase: Phase) -> Hops:
    """Return the hops of a phase, in the order of their ends."""
    size = 1 + int(max(phase.sources.max(initial=0), phase.destinations.max(initial=0)))
    keys, times = counted(phase.sources * size + phase.destinations)
    return Hops(*np.divmod(keys, size), times)


def crossings(topology: Topology, hops: Hops, owners: Ints, num_owners: int) -> tuple[Floats, Crossings]:
    """Route many hops, those of each owner at once.

    Parameters
    ----------
    topology
        Where.
    hops
        Between ranks.
    owners
        To whom each hop belongs, a number below ``num_owners``.
    num_owners
        How many owners there are.

    Returns
    -------
    latencies
        For each owner the seconds of its slowest hop.
    crossings
        What the hops of each owner cross.
    """
    latencies = np.zeros(num_owners)
    parts = []
    for start in range(0, len(owners), CHUNK):
        rows = slice(start, start + CHUNK)
        routes = topology.routes(hops.sources[rows], hops.destinations[rows])
        np.maximum.at(latencies, owners[rows], routes.latencies)
        lengths = np.diff(routes.indptr)
        times = np.repeat(hops.times[rows], lengths)
        keys = np.repeat(owners[rows] * len(topology.links), lengths) + routes.links
        parts.append(counted(keys if times.min(initial=1) == times.max(initial=1) == 1 else np.repeat(keys, times)))
    keys, weights = parts[0] if len(parts) == 1 else _merged(parts)
    return latencies, Crossings(*np.divmod(keys, len(topology.links)), weights)


def counted(keys: Ints) -> tuple[Ints, Ints]:
    """Return the different keys in order, and how often each is there."""
    if not len(keys):
        return keys, keys
    low = int(keys.min())
    if int(keys.max()) - low < DENSE * len(keys):
        counts = np.bincount(keys - low)
        found = np.flatnonzero(counts)
        return found + low, counts[found]
    # Stable sorting is fast where keys come in runs, as those of one owner after the other do.
    ordered = np.sort(keys, kind="stable")
    first = _firsts(ordered)
    return ordered[first], np.diff(first, append=len(ordered))


def _merged(parts: Iterable[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """Return what was counted part by part."""
    none = np.zeros(0, np.int64)
    keys, counts = map(np.concatenate, zip((none, none), *parts, strict=True))
    order = np.argsort(keys, kind="stable")
    first = _firsts(keys[order])
    return keys[order][first], np.add.reduceat(counts[order], first) if len(first) else none


def _firsts(ordered: Ints) -> Ints:
    """Return where values that differ begin."""
    differ = np.ones(len(ordered), dtype=bool)
    differ[1:] = ordered[1:] != ordered[:-1]
    return np.flatnonzero(differ)
