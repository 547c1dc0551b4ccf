"""A link (one direction of a cable) and a route (the links that a message crosses)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FABRIC = "fabric"
"""Endpoint name of the ideal switch that joins the nodes of a template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One direction between two endpoints; a full-duplex cable is two links.

    Parameters
    ----------
    name : str
        Unique in the topology, `node0/device3->node0/nvswitch`.
    source, destination : str
        Endpoint names: a device or a switch.
    bandwidth : float
        Bytes/s in this direction.
    latency : float
        Seconds from the first byte in to the first byte out. What leaves a switch of the fabric includes that
        switch's latency, so that the latency of a route is the sum over its links.
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
