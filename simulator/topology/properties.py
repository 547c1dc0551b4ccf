"""What a network engineer asks first of a cluster: bisection, oversubscription, diameter."""

from dataclasses import dataclass

import networkx as nx
import numpy as np

from simulator.topology.link import Link
from simulator.topology.topology import Topology

MAX_SEARCHED = 256
"""Ranks up to which cuts are found by maximum flow and all pairs of ranks are looked at."""


@dataclass(frozen=True, slots=True)
class Diameter:
    """The longest routes.

    Parameters
    ----------
    hops : int
        Links.
    latency : float
        Seconds.
    """

    hops: int
    latency: float


def bisection(topology: Topology) -> float | None:
    """Bytes/s, one direction, that one half of the cluster can send to the other; None where it was not searched for.

    Nodes are halved as their fabric is built (whole leaves, pods or groups, the longest dimension of a torus); a
    single node or a graph between the first half of its ranks and the second, by maximum flow.
    """
    if topology.world_size < 2:
        return None
    fabric = topology.fabric
    if fabric is None or topology.num_nodes == 1:
        return _cut(topology) if topology.world_size <= MAX_SEARCHED else None
    across = fabric.bisection()
    return across if fabric.direct else min(across, injection(topology))


def injection(topology: Topology) -> float:
    """Bytes/s that half of the nodes can send, were the fabric ideal; half of the ranks of one node or a graph."""
    fabric = topology.fabric
    if fabric is None or topology.num_nodes == 1:
        senders = {topology.router.endpoint(rank) for rank in range(topology.world_size // 2)}
        return sum(link.bandwidth for link in _used(topology) if link.source in senders)
    if fabric.direct:
        whole = sum(section.size * section.numbers[0][0] for section in fabric.sections())
        return topology.num_nodes // 2 * whole / topology.num_nodes
    per_node = [_leaving_node(topology, node) for node in _examples(topology)]
    return topology.num_nodes // 2 * min(per_node)


def oversubscription(topology: Topology) -> float | None:
    """What half of the cluster can send over what crosses to the other half; 1 means that nothing blocks."""
    across = bisection(topology)
    return None if across is None else injection(topology) / across


def diameter(topology: Topology) -> Diameter:
    """The longest routes between any two ranks; in large clusters from the first rank and from the last."""
    ranks = np.arange(topology.world_size)
    sources = ranks if topology.world_size <= MAX_SEARCHED else ranks[[0, -1]]
    routes = topology.routes(np.repeat(sources, len(ranks)), np.tile(ranks, len(sources)))
    return Diameter(int(np.diff(routes.indptr).max()), float(routes.latencies.max()))


def _examples(topology: Topology) -> list[int]:
    """The first node of each group of equal nodes."""
    counts = [count for count, _ in topology.layout.groups]
    return [sum(counts[:i]) for i in range(len(counts))]


def _used(topology: Topology) -> list[Link]:
    """The links that some route crosses; of a lone node not those to a fabric that none of its messages need."""
    ranks = np.arange(topology.world_size)
    routes = topology.routes(np.repeat(ranks, len(ranks)), np.tile(ranks, len(ranks)))
    return [topology.links[i] for i in np.unique(routes.links).tolist()]


def _leaving_node(topology: Topology, node: int) -> float:
    """Bytes/s of all links out of a node that plugs into switches."""
    prefix = f"node{node}/"
    near = (topology.links[i] for i in topology.router.links_near(node))
    outward = (link for link in near if not link.destination.startswith(prefix))
    return sum(link.bandwidth for link in outward if link.source.startswith(prefix))


def _cut(topology: Topology) -> float:
    """Maximum flow from the first half of the ranks to the second (Ford and Fulkerson: the minimum cut)."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for link in _used(topology):
        wide = graph.get_edge_data(link.source, link.destination, {"bandwidth": 0.0})["bandwidth"]
        graph.add_edge(link.source, link.destination, bandwidth=wide + link.bandwidth)
    for rank in range(topology.world_size):
        name = topology.router.endpoint(rank)
        if rank < topology.world_size // 2:
            graph.add_edge("first half", name)
        else:
            graph.add_edge(name, "second half")
    return float(nx.maximum_flow_value(graph, "first half", "second half", capacity="bandwidth"))
