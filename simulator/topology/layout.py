"""How ranks fill nodes: one node after the other, group after group of equal nodes."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Place(NamedTuple):
    """Where a rank sits: its group of equal nodes, its node in the cluster, and its index within that node."""

    group: int
    node: int
    local: int


class Layout:
    """Groups of equal nodes, in rank order.

    Parameters
    ----------
    groups : Sequence[tuple[int, int]]
        For each group: how many nodes, and how many ranks on each.

    Examples
    --------
    >>> Layout([(2, 4), (1, 8)]).place(9)
    Place(group=1, node=2, local=1)
    """

    def __init__(self, groups: Sequence[tuple[int, int]]) -> None:
        self.groups = tuple(groups)
        self._first_ranks = [0, *accumulate(nodes * ranks for nodes, ranks in groups)]
        self._first_nodes = [0, *accumulate(nodes for nodes, _ in groups)]

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self._first_ranks[-1]

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self._first_nodes[-1]

    def place(self, rank: int) -> Place:
        """Where a rank sits."""
        group = bisect_right(self._first_ranks, rank) - 1
        node, local = divmod(rank - self._first_ranks[group], self.groups[group][1])
        return Place(group, self._first_nodes[group] + node, local)

    def places(self, ranks: Ints) -> tuple[Ints, Ints, Ints]:
        """Group, node and local index of many ranks; three arrays of the shape of `ranks`."""
        group = np.searchsorted(np.array(self._first_ranks), ranks, side="right") - 1
        per_node = np.array([count for _, count in self.groups])
        node, local = np.divmod(ranks - np.array(self._first_ranks)[group], per_node[group])
        return group, np.array(self._first_nodes)[group] + node, local

    def group(self, node: int) -> tuple[int, int]:
        """The group that a node belongs to, and the node's index within it."""
        group = bisect_right(self._first_nodes, node) - 1
        return group, node - self._first_nodes[group]

    def ranks(self, node: int) -> range:
        """The ranks of a node."""
        group, index = self.group(node)
        count = self.groups[group][1]
        first = self._first_ranks[group] + index * count
        return range(first, first + count)
