"""Where the members of a group are, and what groups of one shape can do: which algorithms, in which phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

import numpy as np

from simulator.cost.algorithms import OPERATIONS, Algorithm, GroupShape, Phase, algorithms_of
from simulator.cost.cables import direct_cables
from simulator.errors import quote
from simulator.topology import Topology

SMALL_GROUP = 16
"""Members up to which it is looked whether links of their own join them all; larger groups have switches."""


class Repertoire:
    """Algorithms of a shape.

    Parameters
    ----------
    shape
        Where the members of a group are.
    """

    def __init__(self, shape: GroupShape) -> None:
        self.shape = shape
        self._found: dict[str, list[Algorithm]] = {}
        self._phases: dict[tuple[str, str], tuple[Phase, ...]] = {}

    def algorithms(self, operation: str) -> list[Algorithm]:
        """Return all algorithms that do the operation for such a group.

        Raises
        ------
        ValueError
            If there is no such operation, or no algorithm for it and so many ranks.
        """
        if operation not in self._found:
            self._found[operation] = self._find(operation)
        return self._found[operation]

    def phases(self, operation: str, algorithm: str) -> tuple[Phase, ...]:
        """Return what such a group sends, phase after phase."""
        key = (operation, algorithm)
        if key not in self._phases:
            named = next(each for each in algorithms_of(operation) if each.name == algorithm)
            self._phases[key] = named.phases(self.shape)
        return self._phases[key]

    def _find(self, operation: str) -> list[Algorithm]:
        size = self.shape.num_ranks
        known = algorithms_of(operation)
        if not known:
            raise ValueError(f"{quote(operation)} is no operation; {nearest(operation, OPERATIONS)}")
        if operation == "send" and size != 2:
            raise ValueError(f"send joins two ranks, not {size}; name them, as 0,1")
        found = [each for each in known if each.applies(self.shape)]
        if not found:
            raise ValueError(f"no algorithm does {operation} among {size} ranks; name fewer")
        return found


def shape_of(topology: Topology, ranks: Sequence[int]) -> GroupShape:
    """Return where the members of a group are; nodes and local ranks are numbered in their order, without gaps."""
    kinds, nodes, local_ranks = topology.places(np.array(ranks))
    nodes, local_ranks = (np.unique(each, return_inverse=True)[1] for each in (nodes, local_ranks))
    shape = GroupShape(tuple(nodes.tolist()), tuple(local_ranks.tolist()))
    groups = shape.by_node()
    # Routes inside nodes of one kind are alike.
    unlike = {(int(kinds[group[0]]), *(shape.local_ranks[each] for each in group)): group for group in groups}
    summing = bool(topology.reducers) and all(
        _sums(topology, [ranks[each] for each in group]) for group in unlike.values()
    )
    meshed = len(groups) == 1 and len(ranks) <= SMALL_GROUP
    return replace(
        shape,
        in_network=summing,
        cables=direct_cables(topology, ranks) if meshed else (),
    )


def _sums(topology: Topology, ranks: Sequence[int]) -> bool:
    """Say whether nothing but one summing switch is between the ranks of a node."""
    first, *others = ranks
    ways = [topology.route(first, other).links[:-1] for other in others]
    return bool(ways) and all(len(way) == 1 and topology.reduces(topology.links[way[0]].destination) for way in ways)


def nearest(given: str, known: Sequence[str]) -> str:
    """Return what a misspelt name should probably be, or all that it can be."""
    close = get_close_matches(given, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
