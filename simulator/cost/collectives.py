"""What a message costs on its way: latency first, then bytes that flow over links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from simulator.topology import Topology


@dataclass(frozen=True, slots=True)
class Path:
    """How one group of ranks communicates.

    Parameters
    ----------
    num_ranks
        Ranks that take part.
    latency
        Seconds of one step: the slowest hop.
    loads
        Link id -> number of hops that cross it in the same step.
    """

    num_ranks: int
    latency: float
    loads: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Transfer:
    """A message on its path.

    Parameters
    ----------
    latency
        Seconds before the bytes flow; no link is used meanwhile.
    size
        Bytes that each hop carries.
    """

    latency: float
    size: float


def ring(topology: Topology, ranks: tuple[int, ...]) -> Path:
    """Return the path of a ring over ``ranks`` in the given order: each rank sends to the next, all at once."""
    hops = [topology.route(rank, following) for rank, following in zip(ranks, (*ranks[1:], ranks[0]), strict=True)]
    loads = Counter(link for hop in hops for link in hop.links)
    return Path(len(ranks), max(hop.latency for hop in hops), loads)


def channel(topology: Topology, source: int, destination: int) -> Path:
    """Return the path of messages from one rank to another."""
    route = topology.route(source, destination)
    return Path(2, route.latency, dict.fromkeys(route.links, 1))


def ring_all_reduce(path: Path, size: float) -> Transfer:
    """Return the cost of an all-reduce of ``size`` bytes: 2 (n - 1) steps of size / n.

    Notes
    -----
    Reduce-scatter and all-gather around a ring take 2 (n - 1) (alpha + S / (n beta)) (Thakur, Rabenseifner, Gropp
    2005; the form of NCCL's and gloo's rings). All steps load the same links, so they are one flow.
    """
    steps = 2 * (path.num_ranks - 1)
    return Transfer(steps * path.latency, steps / path.num_ranks * size)


def ring_all_gather(path: Path, size: float) -> Transfer:
    """Return the cost of gathering ``size`` bytes of which each rank holds a part: n - 1 steps of size / n.

    Notes
    -----
    (n - 1) (alpha + S / (n beta)) around a ring (Thakur, Rabenseifner, Gropp 2005, section 4.1).
    """
    steps = path.num_ranks - 1
    return Transfer(steps * path.latency, steps / path.num_ranks * size)


def ring_reduce_scatter(path: Path, size: float) -> Transfer:
    """Return the cost of summing ``size`` bytes of which each rank gets a part: an all-gather backwards."""
    return ring_all_gather(path, size)


def pairwise_all_to_all(path: Path, size: float) -> Transfer:
    """Return the cost of exchanging ``size`` bytes of each rank, a part with every other: n - 1 steps of size / n.

    Notes
    -----
    Pairwise exchange (Thakur, Rabenseifner, Gropp 2005, section 4.2); each step loads the links as a ring's does, which
    holds where ranks meet in a switch.
    """
    return ring_all_gather(path, size)


def send(path: Path, size: float) -> Transfer:
    """Return the cost of one message of ``size`` bytes: alpha + S / beta."""
    return Transfer(path.latency, size)
