"""Which links a message crosses: the fewest; among equally few, those that the file names first.

Devices do not forward the traffic of others unless they are said to (`transit: true`); switches always do. Routes are
static: no adaptive routing, no splitting over equal paths.
"""

from collections.abc import Sequence, Set
from typing import Protocol

import networkx as nx

from simulator.topology.link import Link, qualify


class Router(Protocol):
    """Finds the links between two ranks."""

    def path(self, src_rank: int, dst_rank: int) -> tuple[int, ...]:
        """Ids of the links from one rank to the other, in the order a message crosses them."""
        ...

    def endpoint(self, rank: int) -> str:
        """Endpoint name of the rank's device."""
        ...


class Paths:
    """Shortest paths in one graph, between endpoint names; one breadth-first search per source, kept.

    Parameters
    ----------
    links : Sequence[Link]
        The directed links; ids are positions.
    closed : Set[str]
        Endpoints that do not forward traffic of others.
    """

    def __init__(self, links: Sequence[Link], closed: Set[str]) -> None:
        self._closed = closed
        self._graph: nx.DiGraph[str] = nx.DiGraph()
        for i, link in enumerate(links):
            self._graph.add_edge(link.source, link.destination, id=i)
        self._trees: dict[str, dict[str, str]] = {}

    def find(self, source: str, destination: str) -> tuple[int, ...] | None:
        """Ids of the links from source to destination; None when there is no way."""
        if source == destination:
            return ()
        reached_from = self.tree(source)
        if destination not in reached_from:
            return None
        ids = []
        while destination != source:
            previous = reached_from[destination]
            ids.append(self._graph[previous][destination]["id"])
            destination = previous
        return tuple(reversed(ids))

    def tree(self, source: str) -> dict[str, str]:
        """For each endpoint that the source reaches: the endpoint before it on the way."""
        if source not in self._trees:

            def forward(endpoint: str) -> list[str]:
                if endpoint not in self._graph or (endpoint in self._closed and endpoint != source):
                    return []
                return list(self._graph[endpoint])

            edges = nx.generic_bfs_edges(self._graph, source, forward)
            self._trees[source] = {after: before for before, after in edges}
        return self._trees[source]


class GraphRouter:
    """Routes of an explicit graph.

    Parameters
    ----------
    paths : Paths
        Shortest paths of the graph.
    devices : Sequence[str]
        Endpoint names in rank order.
    """

    def __init__(self, paths: Paths, devices: Sequence[str]) -> None:
        self._paths = paths
        self._devices = tuple(devices)
        self._cache: dict[tuple[int, int], tuple[int, ...]] = {}

    def endpoint(self, rank: int) -> str:
        """Endpoint name of the rank's device."""
        return self._devices[rank]

    def path(self, src_rank: int, dst_rank: int) -> tuple[int, ...]:
        """Ids of the links from one rank to the other."""
        pair = src_rank, dst_rank
        if pair not in self._cache:
            found = self._paths.find(self._devices[src_rank], self._devices[dst_rank])
            assert found is not None, "reachability is checked when the topology is built"
            self._cache[pair] = found
        return self._cache[pair]


class TemplateRouter:
    """Routes of equal nodes, from one node's paths: inside a node, or out of one and into another.

    Parameters
    ----------
    paths : Paths
        Shortest paths inside one node; ids are counted within the node.
    devices : Sequence[str]
        Endpoint names of one node's devices in rank order.
    out, into : Sequence[tuple[int, ...]]
        Link ids, counted within the node, from each device to the fabric and back; empty without a fabric.
    links_per_node : int
        How far apart the ids of one node and the next are.
    """

    def __init__(
        self,
        paths: Paths,
        devices: Sequence[str],
        out: Sequence[tuple[int, ...]],
        into: Sequence[tuple[int, ...]],
        links_per_node: int,
    ) -> None:
        self._paths, self._devices = paths, tuple(devices)
        self._out, self._into = out, into
        self.links_per_node = links_per_node
        self.devices_per_node = len(self._devices)
        self._within: dict[tuple[int, int], tuple[int, ...] | None] = {}

    def endpoint(self, rank: int) -> str:
        """Endpoint name of the rank's device."""
        node, index = divmod(rank, len(self._devices))
        return qualify(self._devices[index], node)

    def path(self, src_rank: int, dst_rank: int) -> tuple[int, ...]:
        """Ids of the links from one rank to the other, in constant time."""
        src_node, src = divmod(src_rank, len(self._devices))
        dst_node, dst = divmod(dst_rank, len(self._devices))
        first = src_node * self.links_per_node
        if src_node == dst_node:
            within = self._local(src, dst)
            if within is not None:
                return tuple([first + i for i in within])
        # Also for two devices of one node that nothing but their network cards joins.
        dst_first = dst_node * self.links_per_node
        return (*[first + i for i in self._out[src]], *[dst_first + i for i in self._into[dst]])

    def _local(self, src: int, dst: int) -> tuple[int, ...] | None:
        pair = src, dst
        if pair not in self._within:
            self._within[pair] = self._paths.find(self._devices[src], self._devices[dst])
        return self._within[pair]


def unreached(devices: Sequence[str], links: Sequence[Link], closed: Set[str]) -> tuple[str, list[str]] | None:
    """The first device that cannot reach all others, with those that it cannot reach; None when all reach all.

    Parameters are those of `Paths`; every link must have its way back in `links`.
    """
    graph: nx.Graph[str] = nx.Graph((link.source, link.destination) for link in links)
    wanted = set(devices)
    for switches in nx.connected_components(graph.subgraph(set(graph) - closed)):
        # Usually one group of switches touches everything, which spares a search from every device.
        if wanted <= switches.union(*(graph[switch] for switch in switches)):
            return None
    paths = Paths(links, closed)
    for source in devices:
        missing = wanted - {source} - paths.tree(source).keys()
        if missing:
            return source, [name for name in devices if name in missing]
    return None
