"""What collective algorithms are made of: phases, in which hops between members of a group carry bytes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from simulator.topology.protocols import Protocol

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "shift", "send")
"""Operations on a group; in a `shift` each member sends to the next, in a `send` the first one to the second."""


Cable = tuple[int, int, float]
"""A link between two members, the first one the smaller: their positions in the group, and bytes/s."""


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """Equal steps in a row, in each of which the same hops carry the same number of bytes.

    Parameters
    ----------
    sources, destinations
        Members (positions in the group) between which each hop goes; shape (hops,).
    fraction
        Part of S, the buffer's bytes, that each hop carries in one step; 0 where only latency passes, as while a
        pipeline fills.
    repeats
        Number of steps.
    """

    sources: NDArray[np.int64]
    destinations: NDArray[np.int64]
    fraction: float
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class GroupShape:
    """Where the members of a group are, as far as algorithms care.

    Parameters
    ----------
    nodes
        Node of each member.
    local_ranks
        Index of each member within its node.
    in_network
        A switch that can sum joins the members of each node.
    cables
        Links that join two members directly, in small groups on one node.
    """

    nodes: tuple[int, ...]
    local_ranks: tuple[int, ...]
    in_network: bool = False
    cables: tuple[Cable, ...] = ()

    @property
    def num_ranks(self) -> int:
        """Number of members."""
        return len(self.nodes)

    @property
    def direct_links(self) -> bool:
        """Whether a link of its own joins every two members."""
        return len(self.cables) == self.num_ranks * (self.num_ranks - 1) // 2

    def by_node(self) -> list[list[int]]:
        """Members of each node in order of their local ranks; nodes in order of appearance."""
        nodes = np.array(self.nodes)
        order = np.lexsort((np.array(self.local_ranks), nodes))
        parts = np.split(order, np.flatnonzero(np.diff(nodes[order])) + 1)
        return sorted((part.tolist() for part in parts), key=min)

    @property
    def has_rails(self) -> bool:
        """Whether there are several nodes with the same local ranks, and several in each."""
        groups = self.by_node()
        rails = {tuple(self.local_ranks[member] for member in group) for group in groups}
        return len(groups) > 1 and len(rails) == 1 and len(groups[0]) > 1


def always(shape: GroupShape) -> bool:
    """Say that an algorithm works for every group."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One way to do one operation.

    Parameters
    ----------
    name, operation
        Together they are its key.
    phases
        What a group of this shape does, phase after phase.
    applies
        Whether it works for a group of this shape.
    in_libraries
        Communication libraries choose it by themselves; others must be named.
    source
        Where it is described.
    protocols
        What it costs where the topology says nothing: of a library of its own, beside the cluster's.
    """

    name: str
    operation: str
    phases: Callable[[GroupShape], tuple[Phase, ...]]
    applies: Callable[[GroupShape], bool] = always
    in_libraries: bool = False
    source: str
    protocols: tuple[Protocol, ...] = ()


def hops(pairs: Iterable[tuple[int, int]], fraction: float, repeats: int = 1) -> Phase:
    """Return a phase whose hops are given as pairs of members."""
    ends = np.fromiter(chain.from_iterable(pairs), dtype=np.int64).reshape(-1, 2)
    return Phase(ends[:, 0], ends[:, 1], fraction, repeats)
