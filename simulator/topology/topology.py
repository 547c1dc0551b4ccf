"""The cluster: devices, hosts, links, and the route between any two ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from simulator.topology.device import Device, Host
from simulator.topology.fabrics import Fabric
from simulator.topology.layout import Ints, Layout
from simulator.topology.link import Route, Routes
from simulator.topology.links import Links
from simulator.topology.protocols import Collectives, Scope
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
        One a node.
    layout : Layout
        How ranks fill the nodes.
    links : Links
        All directed links; a link's id is its position. They are created when asked for.
    fabric : Fabric or None
        What joins the nodes of a template.
    router : Router
        Finds the links between two ranks.
    sources : Mapping[str, str]
        Where the numbers come from, by what they describe.
    collectives : Collectives
        What the communication library makes of the links.
    reducers : frozenset[str]
        Names of the switches that can sum what passes, without the node's prefix.
    """

    name: str
    description: str
    devices: tuple[Device, ...]
    hosts: tuple[Host, ...]
    layout: Layout = field(repr=False, compare=False)
    links: Links = field(repr=False)
    fabric: Fabric | None = field(default=None, repr=False, compare=False)
    router: Router = field(repr=False, compare=False)
    sources: Mapping[str, str] = field(repr=False, hash=False)
    collectives: Collectives = field(default_factory=Collectives, repr=False)
    reducers: frozenset[str] = frozenset()

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
        """Number of ranks on each node; on the largest one, where nodes differ."""
        return max(ranks for _, ranks in self.layout.groups)

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Where its groups can be: within a node, between nodes, or both."""
        node: tuple[Scope, ...] = ("node",) if self.devices_per_node > 1 else ()
        return (*node, "cluster") if self.num_nodes > 1 else node

    def node(self, rank: int) -> int:
        """Index of the node that holds the rank."""
        return self.layout.place(self._checked(rank)).node

    def local_rank(self, rank: int) -> int:
        """Index of the rank within its node."""
        return self.layout.place(self._checked(rank)).local

    def places(self, ranks: Ints) -> tuple[Ints, Ints, Ints]:
        """Group of equal nodes, node and index within it of many ranks; three arrays of the shape of `ranks`."""
        return self.layout.places(self._all_checked(ranks))

    def local_world_size(self, rank: int) -> int:
        """Number of ranks on the rank's node."""
        return self.layout.groups[self.layout.place(self._checked(rank)).group][1]

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

    def routes(self, sources: Ints, destinations: Ints) -> Routes:
        """Many routes at once, the k-th from `sources[k]` to `destinations[k]`.

        Parameters
        ----------
        sources, destinations : int64[n]
            Ranks.

        Raises
        ------
        ValueError
            If a rank does not exist.
        """
        sources, destinations = self._all_checked(sources), self._all_checked(destinations)
        indptr, links = self.router.paths(sources, destinations)
        owners = np.repeat(np.arange(len(sources)), np.diff(indptr))
        # Adds the links of a route one by one, as `route` does, so that both agree to the last bit.
        summed = np.bincount(owners, weights=self.links.latencies(links), minlength=len(sources))
        return Routes(indptr=indptr, links=links, latencies=summed.astype(np.float64))

    def bandwidths(self, links: Ints) -> NDArray[np.float64]:
        """Bytes/s of many links, by id; float64 of the shape of `links`."""
        return self.links.bandwidths(np.asarray(links, dtype=np.int64))

    def reduces(self, endpoint: str) -> bool:
        """Whether an endpoint is a switch that can sum what passes."""
        return endpoint.rpartition("/")[2] in self.reducers

    def bottleneck(self, route: Route) -> float:
        """Bytes/s of the narrowest link on the route; infinite from a rank to itself."""
        return min((self.links[i].bandwidth for i in route.links), default=float("inf"))

    def graph(self, ranks: Sequence[int] | None = None) -> "nx.DiGraph[str]":
        """The cluster as a graph, to draw or to check; all of it (meant for small ones) or what joins some ranks.

        Vertices carry `rank` where they are devices. Parallel links (two NICs of one switch) become one edge with the
        sum of their `bandwidth`, the smallest `latency` and all their ids in `links`.
        """
        graph: nx.DiGraph[str] = nx.DiGraph(name=self.name)
        devices = {self.router.endpoint(rank): rank for rank in range(self.world_size)}
        graph.add_nodes_from(map(self.router.endpoint, range(self.world_size) if ranks is None else ranks))
        ids: Sequence[int] = range(len(self.links))
        if ranks is not None:
            pairs = np.array(list(permutations(ranks, 2)), np.int64).reshape(-1, 2)
            ids = np.unique(self.routes(pairs[:, 0], pairs[:, 1]).links).tolist()
        for i in ids:
            link = self.links[i]
            edge = graph.get_edge_data(link.source, link.destination, {"bandwidth": 0.0, "links": ()})
            graph.add_edge(
                link.source,
                link.destination,
                bandwidth=edge["bandwidth"] + link.bandwidth,
                latency=min(link.latency, edge.get("latency", link.latency)),
                links=(*edge["links"], i),
            )
        nx.set_node_attributes(graph, {name: devices[name] for name in graph if name in devices}, "rank")
        return graph

    def _checked(self, rank: int) -> int:
        if not 0 <= rank < len(self.devices):
            raise ValueError(f"rank {rank} does not exist: {self.name} has ranks 0 to {self.world_size - 1}")
        return rank

    def _all_checked(self, ranks: Ints) -> Ints:
        ranks = np.asarray(ranks, dtype=np.int64)
        if ranks.size:
            self._checked(int(ranks.min()))
            self._checked(int(ranks.max()))
        return ranks
