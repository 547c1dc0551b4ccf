"""One ideal switch that never blocks."""

from collections.abc import Iterator
from dataclasses import dataclass

from simulator.topology.fabrics.base import Columns, Index, Landmark
from simulator.topology.link import FABRIC
from simulator.topology.links import Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """All network cards plug into one switch.

    Parameters
    ----------
    latency : float
        Seconds.
    num_nodes : int
        Nodes that it joins.
    """

    latency: float
    num_nodes: int
    direct = False
    proxies = False

    def sections(self) -> list[Section]:
        """No links but those of the network cards."""
        return []

    def attach(self, node: int, card: int) -> str:
        """The switch."""
        return FABRIC

    def columns(self, src: Index, src_card: Index, dst: Index, dst_card: Index, draw: Index) -> Columns:
        """Nothing between the cards."""
        return []

    def bisection(self) -> float:
        """Only network cards limit it."""
        return float("inf")

    def landmarks(self) -> Iterator[Landmark]:
        """All nodes are equally far."""
        if self.num_nodes > 1:
            yield Landmark("other node", 1)
