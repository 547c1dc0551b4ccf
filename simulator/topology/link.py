"""A link (one direction of a cable) and a route (the links that a message crosses)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import overload

import numpy as np
from numpy.typing import NDArray

FABRIC = "fabric"
"""Endpoint name of the switch that joins the nodes of a template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One direction between two endpoints; a full-duplex cable is two links.

    Parameters
    ----------
    name : str
        Unique in the topology, `node0/device3->node0/nvswitch`.
    source, destination : str
        Endpoint names: a device, a switch, or the fabric.
    bandwidth : float
        Bytes/s in this direction.
    latency : float
        Seconds from the first byte in to the first byte out. What leaves the fabric includes the fabric's latency,
        so that the latency of a route is the sum over its links.
    """

    name: str
    source: str
    destination: str
    bandwidth: float
    latency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way from one rank to another.

    Parameters
    ----------
    links : tuple[int, ...]
        Ids (positions in `Topology.links`) in the order a message crosses them; empty from a rank to itself.
    latency : float
        Seconds, the sum over the links.
    """

    links: tuple[int, ...]
    latency: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Routes:
    """Many routes at once; route k crosses `links[indptr[k]:indptr[k + 1]]`.

    Parameters
    ----------
    indptr : int64[n + 1]
        Where each route begins in `links`, and where the last one ends.
    links : int64[...]
        Ids of links, each route's in crossing order, one route after the other.
    latencies : float64[n]
        Seconds.
    """

    indptr: NDArray[np.int64]
    links: NDArray[np.int64]
    latencies: NDArray[np.float64]


class RepeatedLinks(Sequence[Link]):
    """The links of equal nodes, created when asked for; link j of node k has the id k * len(pattern) + j.

    Parameters
    ----------
    pattern : Sequence[Link]
        The links of one node, endpoints and names without the node's prefix.
    num_nodes : int
        How many times the pattern stands there.
    """

    def __init__(self, pattern: Sequence[Link], num_nodes: int) -> None:
        self.pattern = tuple(pattern)
        self._num_nodes = num_nodes
        self._made: dict[int, Link] = {}

    def __len__(self) -> int:
        return len(self.pattern) * self._num_nodes

    @overload
    def __getitem__(self, index: int) -> Link: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Link]: ...
    def __getitem__(self, index: int | slice) -> Link | Sequence[Link]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        link = self._made.get(index)
        return link if link is not None else self._make(index)

    def _make(self, index: int) -> Link:
        position = range(len(self))[index]  # negative and out-of-range indices behave as in a list
        node, j = divmod(position, len(self.pattern))
        link = self.pattern[j]
        source, destination = qualify(link.source, node), qualify(link.destination, node)
        name = f"{source}->{destination}" + link.name[len(f"{link.source}->{link.destination}") :]
        made = replace(link, name=name, source=source, destination=destination)
        self._made[position] = made
        return made


@cache
def qualify(endpoint: str, node: int) -> str:
    """The endpoint's name in the whole cluster; the fabric belongs to no node.

    Examples
    --------
    >>> qualify("device3", 1), qualify("fabric", 1)
    ('node1/device3', 'fabric')
    """
    return endpoint if endpoint == FABRIC else f"node{node}/{endpoint}"
