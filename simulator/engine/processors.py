"""What computing shares with messages: the cores of a host, or a device that is slower while it communicates.

Either is a capacity like that of a link: seconds of computing a second. A core serves one thread, of a rank that
computes or of one that sends; of a device a message at full speed takes the share that ``overlap_slowdown`` says.
"""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.topology import Topology

NOBODY = -1
"""In place of the processor of a rank that shares none."""


class Processors(NamedTuple):
    """The processors of a cluster.

    Parameters
    ----------
    of
        For each rank the resource that its computing shares, or ``NOBODY``.
    capacities
        Seconds/s of each processor, in the order of the resources, which are the last ones.
    shares
        For each rank the part of a processor, 1 being a core or a device, that serves a message at full speed.
    """

    of: NDArray[np.int64]
    capacities: NDArray[np.float64]
    shares: NDArray[np.float64]


def find_processors(topology: Topology, nodes: NDArray[np.int64], first: int) -> Processors:
    """Return the processors of a cluster.

    Parameters
    ----------
    topology
        Has hosts and devices.
    nodes
        Host of each rank.
    first
        Number of the first resource that is a processor.
    """
    counts = np.array([host.cores or 0 for host in topology.hosts])
    hosts = np.flatnonzero(counts)
    resources = np.full(len(counts), NOBODY)
    resources[hosts] = first + np.arange(len(hosts))
    of = resources[nodes]
    slowdowns = np.fromiter(map(attrgetter("overlap_slowdown"), topology.devices), np.float64, len(nodes))
    slowed = np.flatnonzero((of == NOBODY) & (slowdowns > 0.0))
    shares = np.where(of == NOBODY, slowdowns, 1.0)
    of[slowed] = first + len(hosts) + np.arange(len(slowed))
    return Processors(of, np.concatenate([counts[hosts].astype(np.float64), np.ones(len(slowed))]), shares)


def unit_weights(processors: Processors, fastest: float) -> NDArray[np.float64]:
    """Return for each rank the processor-seconds of a unit of its computing.

    Parameters
    ----------
    processors
        All of them.
    fastest
        Bytes/s of the fastest message. A busy core works through as many units a second. A device does through more:
        while rates rise together, each message then has its links full before the device is.
    """
    is_device = processors.shares < 1.0
    return np.where(is_device, 1.0 - processors.shares, 1.0) / fastest
