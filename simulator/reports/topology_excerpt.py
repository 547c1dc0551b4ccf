"""What of a cluster is drawn: all of it, or of a large one some nodes that stand for the others."""

from collections.abc import Iterator
from itertools import accumulate

import networkx as nx

from simulator.topology import Topology


def excerpt(topology: Topology, most: int) -> tuple["nx.DiGraph[str]", str]:
    """Return the graph to draw, and what part of the cluster it is, in words; no words where it is all.

    Parameters
    ----------
    topology
        The cluster.
    most
        Ranks up to which all of it is drawn. Of a larger one: the first node, one of each other kind, one at each kind
        of distance, and the links between their devices, so many devices at most.
    """
    if topology.world_size <= most:
        return topology.graph(), ""
    nodes = sorted(set(_standing_for_others(topology)))
    each = max(1, most // len(nodes))
    ranks = [rank for node in nodes for rank in list(topology.layout.ranks(node))[:each]]
    *most_nodes, last = map(str, nodes)
    words = f"nodes {', '.join(most_nodes)} and {last} of {topology.num_nodes:,}" if most_nodes else f"node {last}"
    fewer = f", {each} devices of each," if any(len(topology.layout.ranks(node)) > each for node in nodes) else ""
    return topology.graph(ranks), f"{words}{fewer} and the links between them"


def _standing_for_others(topology: Topology) -> Iterator[int]:
    if topology.fabric is None:
        yield from (0, min(1, topology.num_nodes - 1), topology.num_nodes - 1)
        return
    yield from accumulate((nodes for nodes, _ in topology.layout.groups[:-1]), initial=0)
    yield from (landmark.node for landmark in topology.fabric.landmarks())
