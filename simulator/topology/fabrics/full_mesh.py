"""A cable between every two nodes."""

from collections.abc import Iterator
from dataclasses import dataclass

from simulator.topology.fabrics.base import Columns, Index, Landmark, halves
from simulator.topology.links import Ends, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class FullMesh:
    """Every node joined to every other.

    Parameters
    ----------
    num_nodes : int
        Nodes that it joins.
    bandwidth, cable_latency : float
        Bytes/s and seconds of one cable, per direction.
    at : str
        The endpoint of each node where the cables plug in.
    """

    num_nodes: int
    bandwidth: float
    cable_latency: float
    at: str
    direct = True
    latency = 0.0
    proxies = False

    def sections(self) -> list[Section]:
        """The links out of node 0, out of node 1, and so on."""
        return [Section(self.num_nodes * (self.num_nodes - 1), [(self.bandwidth, self.cable_latency)], self._ends)]

    def _ends(self, index: int) -> Ends:
        source, other = divmod(index, self.num_nodes - 1)
        return Ends(f"node{source}/{self.at}", f"node{other + (other >= source)}/{self.at}")

    def attach(self, node: int, card: int) -> str:
        """The node itself."""
        return f"node{node}/{self.at}"

    def columns(self, src: Index, src_card: Index, dst: Index, dst_card: Index, draw: Index) -> Columns:
        """The one link between the two."""
        return [(src * (self.num_nodes - 1) + dst - (dst > src), src != dst)]

    def bisection(self) -> float:
        """One cable for each pair with one node in each half."""
        return halves(self.num_nodes) * self.bandwidth if self.num_nodes > 1 else float("inf")

    def landmarks(self) -> Iterator[Landmark]:
        """All nodes are equally far."""
        if self.num_nodes > 1:
            yield Landmark("neighbour", 1)
