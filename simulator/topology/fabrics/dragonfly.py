"""Groups of routers, all joined to all inside a group, and a trunk between every two groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from simulator.topology.fabrics.base import Columns, Index, Landmark, halves
from simulator.topology.links import Ends, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Dragonfly:
    """Minimal routes: to the router that has the trunk to the other group, across, and to the router of the node.

    Parameters
    ----------
    num_nodes, nodes_per_router, routers_per_group : int
        Consecutive nodes share a router, consecutive routers a group.
    bandwidth : float
        Bytes/s, per direction, between two routers of a group.
    trunk : float
        Bytes/s, per direction, of all global cables between two groups together.
    ways : int
        Parallel global cables among which a hash chooses; 1 where they are one trunk.
    latency, global_latency : float
        Seconds that each router adds with the cable behind it, and what a global cable adds.

    Notes
    -----
    Kim, Dally, Scott, Abts, Technology-Driven, Highly-Scalable Dragonfly Topology (ISCA 2008). The trunk from group i
    to group j leaves from router (j - i - 1) mod groups mod routers: trunks are dealt out to routers in turn.
    """

    num_nodes: int
    nodes_per_router: int
    routers_per_group: int
    bandwidth: float
    trunk: float
    ways: int
    latency: float
    global_latency: float
    direct = False
    proxies = False

    @property
    def num_groups(self) -> int:
        """Groups, the last one perhaps not full of nodes."""
        return ceil(self.num_nodes / (self.nodes_per_router * self.routers_per_group))

    @property
    def _local_links(self) -> int:
        return self.num_groups * self.routers_per_group * (self.routers_per_group - 1)

    def sections(self) -> list[Section]:
        """The links between routers of a group, then those between groups."""
        trunks = self.num_groups * (self.num_groups - 1) * self.ways
        return [
            Section(self._local_links, [(self.bandwidth, self.latency)], self._local_ends),
            Section(trunks, [(self.trunk / self.ways, self.latency + self.global_latency)], self._global_ends),
        ]

    def _router(self, group: int, router: int) -> str:
        return f"group{group}/router{router}"

    def _local_ends(self, index: int) -> Ends:
        above, other = divmod(index, self.routers_per_group - 1)
        group, router = divmod(above, self.routers_per_group)
        return Ends(self._router(group, router), self._router(group, other + (other >= router)))

    def _global_ends(self, index: int) -> Ends:
        pair, way = divmod(index, self.ways)
        group, offset = divmod(pair, self.num_groups - 1)
        other = (group + 1 + offset) % self.num_groups
        source = self._router(group, self._gateway(group, other))
        return Ends(source, self._router(other, self._gateway(other, group)), f"#{way}" if way else "")

    def _gateway(self, group: Index, other: Index) -> Index:
        return (other - group - 1) % self.num_groups % self.routers_per_group

    def attach(self, node: int, card: int) -> str:
        """The node's router; all its cards plug in there."""
        return self._router(*divmod(node // self.nodes_per_router, self.routers_per_group))

    def columns(self, src: Index, src_card: Index, dst: Index, dst_card: Index, draw: Index) -> Columns:
        """At most one local link, one global and one local."""
        start, goal = src // self.nodes_per_router, dst // self.nodes_per_router
        group, other = start // self.routers_per_group, goal // self.routers_per_group
        router, last = start % self.routers_per_group, goal % self.routers_per_group
        far, near = group != other, group == other
        # Within a group the way out is the destination itself.
        out = self._gateway(group, other) * far + last * near
        into = self._gateway(other, group) * far + last * near
        offset = (other - group - 1) % self.num_groups
        trunk = (group * (self.num_groups - 1) + offset) * self.ways + draw % self.ways
        return [
            (self._local(group, router, out), router != out),
            (self._local_links + trunk, far),
            (self._local(other, into, last), into != last),
        ]

    def _local(self, group: Index, router: Index, other: Index) -> Index:
        row = (group * self.routers_per_group + router) * (self.routers_per_group - 1)
        return row + other - (other > router)

    def bisection(self) -> float:
        """One trunk for each pair with one group in each half; of one group, its routers."""
        if self.num_groups > 1:
            return halves(self.num_groups) * self.trunk
        filled = ceil(self.num_nodes / self.nodes_per_router)
        return halves(filled) * self.bandwidth if filled > 1 else float("inf")

    def landmarks(self) -> Iterator[Landmark]:
        """Same router, same group, other group."""
        per_router, per_group = self.nodes_per_router, self.nodes_per_router * self.routers_per_group
        if min(per_router, self.num_nodes) > 1:
            yield Landmark("same router", 1)
        if self.routers_per_group > 1 and self.num_nodes > per_router:
            yield Landmark("same group", per_router)
        if self.num_nodes > per_group:
            yield Landmark("other group", self.num_nodes - 1)
