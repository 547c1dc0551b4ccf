"""The cluster: devices, hosts, links, and the route between any two ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from simulator.topology.bulk import find_bandwidths, find_routes
from simulator.topology.device import Device, Host
from simulator.topology.link import Link, Route, Routes
from simulator.topology.routes import Router


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Where a plan runs. Rank r runs on device r; ranks fill one node after the other.

    Parameters
    ----------
    name, description : str
        As in the topology file.
    devices : tuple[Device, ...]
        One a rank, in rank order.
    hosts : tuple[Host, ...]
        One a node; each holds the same number of ranks.
    links : Sequence[Link]
        All directed links; a link's id is its position. Templates create them when asked for.
    router : Router
        Finds the links between two ranks.
    sources : Mapping[str, str]
        Where the numbers come from, by what they describe.
    """

    name: str
    description: str
    devices: tuple[Device, ...]
    hosts: tuple[Host, ...]
    links: Sequence[Link] = field(repr=False)
    router: Router = field(repr=False, compare=False)
    sources: Mapping[str, str] = field(repr=False, hash=False)

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return len(self.devices)

    @property
    def num_nodes(self) -> int:
        """Number of nodes (hosts)."""
        return len(self.hosts)

    @property
    def devices_per_node(self) -> int:
        """Number of ranks on each node."""
        return self.world_size // self.num_nodes

    def node(self, rank: int) -> int:
        """Index of the node that holds the rank."""
        return self._checked(rank) // self.devices_per_node

    def local_rank(self, rank: int) -> int:
        """Index of the rank within its node."""
        return self._checked(rank) % self.devices_per_node

    def device(self, rank: int) -> Device:
        """The device that the rank runs on."""
        return self.devices[self._checked(rank)]

    def host(self, rank: int) -> Host:
        """The host whose cores and memory the rank shares."""
        return self.hosts[self.node(rank)]

    def route(self, src_rank: int, dst_rank: int) -> Route:
        """The links from one rank to another and their latency in seconds; no links from a rank to itself.

        Raises
        ------
        ValueError
            If a rank does not exist. (Every pair of existing ranks has a route: `build_topology` saw to it.)
        """
        ids = self.router.path(self._checked(src_rank), self._checked(dst_rank))
        links = self.links
        return Route(links=ids, latency=sum([links[i].latency for i in ids]))

    def routes(self, sources: NDArray[np.int64], destinations: NDArray[np.int64]) -> Routes:
        """The routes from many ranks to as many others; see `route`."""
        return find_routes(self.router, self.links, sources, destinations)

    def bandwidths(self, link_ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bytes/s of many links."""
        return find_bandwidths(self.links, link_ids)

    def bottleneck(self, route: Route) -> float:
        """Bytes/s of the narrowest link on the route; infinite from a rank to itself."""
        return min((self.links[i].bandwidth for i in route.links), default=float("inf"))

    def graph(self) -> "nx.DiGraph[str]":
        """The whole cluster as a graph, to draw or to check; meant for small ones.

        Vertices carry `rank` where they are devices. Parallel links (two NICs of one switch) become one edge with the
        sum of their `bandwidth`, the smallest `latency` and all their ids in `links`.
        """
        graph: nx.DiGraph[str] = nx.DiGraph(name=self.name)
        graph.add_nodes_from((self.router.endpoint(rank), {"rank": rank}) for rank in range(self.world_size))
        for i, link in enumerate(self.links):
            edge = graph.get_edge_data(link.source, link.destination, {"bandwidth": 0.0, "links": ()})
            graph.add_edge(
                link.source,
                link.destination,
                bandwidth=edge["bandwidth"] + link.bandwidth,
                latency=min(link.latency, edge.get("latency", link.latency)),
                links=(*edge["links"], i),
            )
        return graph

    def _checked(self, rank: int) -> int:
        if not 0 <= rank < len(self.devices):
            raise ValueError(f"rank {rank} does not exist: {self.name} has ranks 0 to {self.world_size - 1}")
        return rank
