"""Which links a message crosses: the fewest; among equally few, those that the file names first.

Devices do not forward the traffic of others unless they are said to (`transit: true`); switches always do. Routes are
static: no adaptive routing, no splitting over equal paths.
"""

from collections.abc import Iterable, Sequence, Set
from typing import Protocol

import networkx as nx
import numpy as np

from simulator.topology.layout import Ints
from simulator.topology.link import Link


class Router(Protocol):
    """Finds the links between two ranks."""

    def path(self, src_rank: int, dst_rank: int) -> tuple[int, ...]:
        """Ids of the links from one rank to the other, in the order a message crosses them."""
        ...

    def paths(self, sources: Ints, destinations: Ints) -> tuple[Ints, Ints]:
        """Ids of the links of many routes, one after the other, and before them where each begins and the last ends."""
        ...

    def endpoint(self, rank: int) -> str:
        """Endpoint name of the rank's device."""
        ...

    def links_near(self, node: int | None) -> Iterable[int]:
        """Ids of the links whose names mention a node, and maybe of others; None means all links."""
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
        self.num_links = len(links)
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

    def links_near(self, node: int | None) -> Iterable[int]:
        """All links: the names in a graph are free."""
        return range(self._paths.num_links)

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

    def paths(self, sources: Ints, destinations: Ints) -> tuple[Ints, Ints]:
        """Where each route begins among the ids of all, and these ids."""
        found = [self.path(*pair) for pair in zip(sources.tolist(), destinations.tolist(), strict=True)]
        indptr = np.concatenate([[0], np.cumsum([len(path) for path in found], dtype=np.int64)])
        return indptr, np.array([i for path in found for i in path], dtype=np.int64)


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
