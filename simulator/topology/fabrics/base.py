"""What every fabric answers.

Routes come from coordinates by arithmetic alone, without a graph: the same operators work on one pair (ints) and on a
hundred thousand (arrays).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from simulator.topology.links import Section

Index = Any
"""An int, or an int64 array; one formula serves both."""

Columns = list[tuple[Index, Index]]
"""Links in crossing order, counted within the fabric, each with whether the route crosses it (bool or array)."""


class Landmark(NamedTuple):
    """A node that stands for all that are as far from node 0.

    Parameters
    ----------
    label : str
        How far it is, `other leaf`.
    node : int
        Its index.
    card : int
        The network card by which to enter it.
    """

    label: str
    node: int
    card: int = 0


class Fabric(Protocol):
    """Joins nodes: by switches into which their network cards plug, or directly (`direct`)."""

    @property
    def direct(self) -> bool:
        """Whether cables join the nodes themselves, so that a message passes through other nodes."""
        ...

    @property
    def latency(self) -> float:
        """Seconds that the last switch adds before a node's network card; 0 where there is none."""
        ...

    @property
    def proxies(self) -> bool:
        """Whether a message leaves its node by the card that matches the receiver's (PXN), not by the sender's own."""
        ...

    def sections(self) -> list[Section]:
        """The fabric's own links, in the order of their ids within the fabric."""
        ...

    def attach(self, node: int, card: int) -> str:
        """The switch that a network card plugs into."""
        ...

    def columns(self, src: Index, src_card: Index, dst: Index, dst_card: Index, draw: Index) -> Columns:
        """The way between the cards of two nodes; `draw` chooses among parallel links, 0 where they are one trunk."""
        ...

    def bisection(self) -> float:
        """Bytes/s, one direction, across the cut that halves the fabric; infinite where only network cards limit it."""
        ...

    def landmarks(self) -> Iterator[Landmark]:
        """The nearest kinds of destination first."""
        ...


def largest(values: Index) -> int:
    """The largest of an array, or the int itself."""
    return values if isinstance(values, int) else int(np.max(values, initial=0))


def halves(count: int) -> int:
    """Pairs (one in each half) when `count` things are cut into halves."""
    return (count // 2) * ((count + 1) // 2)
