"""Ranks that cannot differ in what they compute with, taken together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.program.program import Program
from simulator.topology import Topology


class Place(NamedTuple):
    """Ranks of one pipeline coordinate on one node with one kind of device.

    Parameters
    ----------
    coordinate, node
        Where.
    rank
        The first of them.
    num_ranks
        How many there are.
    """

    coordinate: int
    node: int
    rank: int
    num_ranks: int


def places(program: Program, topology: Topology) -> list[Place]:
    """Return all places of a plan on a cluster."""
    kinds: dict[int, int] = {}
    devices = np.fromiter((kinds.setdefault(id(each), len(kinds)) for each in topology.devices), np.int64)
    nodes = topology.layout.places(np.arange(topology.world_size))[1]
    coordinates = program.plan.mesh.along("pp")
    keys = (coordinates * topology.num_nodes + nodes) * len(kinds) + devices
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return [Place(*row) for row in np.stack([coordinates[first], nodes[first], first, counts], axis=1).tolist()]
