"""Which members of a group have a link of their own between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from simulator.cost.algorithms.phase import Cable
from simulator.topology import Topology


def direct_cables(topology: Topology, ranks: Sequence[int]) -> tuple[Cable, ...]:
    """Return the cables that join two ranks without anything between, as positions in ``ranks`` and bytes/s."""
    found = []
    for one, other in combinations(range(len(ranks)), 2):
        there, back = topology.route(ranks[one], ranks[other]), topology.route(ranks[other], ranks[one])
        if len(there.links) == len(back.links) == 1:
            found.append((one, other, min(topology.bottleneck(there), topology.bottleneck(back))))
    return tuple(found)
