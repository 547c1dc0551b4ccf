"""Routes between the nodes of a template, from coordinates, in constant time; or a hundred thousand at once."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.topology.fabrics import Fabric
from simulator.topology.fabrics.ecmp import draw
from simulator.topology.layout import Ints, Layout
from simulator.topology.node import NodeTemplate, Way

CHUNK = 2**14
"""Routes worked out in one go: a long way around a ring has thousands of links, and so has its row of the matrix."""


class Trip(NamedTuple):
    """What all routes between two kinds of place have in common.

    Parameters
    ----------
    head, tail : Way
        Links in the node of the sender, and in that of the receiver, counted within the node.
    out_card, in_card : int
        Network cards that it leaves and enters by; 0 where the fabric joins nodes directly.
    inside : bool
        Whether it stays in the node.
    """

    head: Way
    tail: Way
    out_card: int
    in_card: int
    inside: bool


class TemplateRouter:
    """Routes inside a node, or out of one, through the fabric, and into another.

    Parameters
    ----------
    layout : Layout
        How ranks fill the nodes.
    nodes : Sequence[NodeTemplate]
        One a group of the layout.
    fabric : Fabric or None
        What joins the nodes.
    seed : int or None
        Of the hash that chooses among parallel links of the fabric.
    at : str
        Where the cables of a direct fabric plug into each node; empty for others.
    """

    def __init__(
        self, layout: Layout, nodes: Sequence[NodeTemplate], fabric: Fabric | None, seed: int | None, at: str
    ) -> None:
        self._layout, self._nodes = layout, tuple(nodes)
        self._fabric, self._seed, self._at = fabric, seed, at
        counts = [count for count, _ in layout.groups]
        self._strides = [node.num_links for node in nodes]
        self._firsts = [0, *accumulate(count * stride for count, stride in zip(counts, self._strides, strict=True))]
        self._first_nodes = [0, *accumulate(counts)]
        self._trips: dict[tuple[int, int, int, int, bool], Trip] = {}

    @property
    def _fabric_first(self) -> int:
        return self._firsts[-1]

    def _first(self, group: int, node: int) -> int:
        """Id of the first link of a node."""
        return self._firsts[group] + (node - self._first_nodes[group]) * self._strides[group]

    def endpoint(self, rank: int) -> str:
        """Endpoint name of the rank's device."""
        place = self._layout.place(rank)
        return f"node{place.node}/{self._nodes[place.group].names[place.local]}"

    def links_near(self, node: int | None) -> Iterable[int]:
        """The links of a node; and those of a direct fabric, for they join nodes too."""
        fabric = self._fabric
        end = self._fabric_first + (sum(section.size for section in fabric.sections()) if fabric else 0)
        if node is None:
            return range(end)
        beyond = range(self._fabric_first, end) if fabric and fabric.direct else range(0)
        if node >= self._layout.num_nodes:
            return beyond
        group, _ = self._layout.group(node)
        first = self._first(group, node)
        return chain(range(first, first + self._strides[group]), beyond)

    def path(self, src_rank: int, dst_rank: int) -> tuple[int, ...]:
        """Ids of the links from one rank to the other."""
        src, dst = self._layout.place(src_rank), self._layout.place(dst_rank)
        trip = self._trip(src.group, src.local, dst.group, dst.local, src.node == dst.node)
        first = self._first(src.group, src.node)
        head = [first + i for i in trip.head]
        if trip.inside or self._fabric is None:
            return tuple(head)
        columns = self._fabric.columns(
            src.node, trip.out_card, dst.node, trip.in_card, draw(self._seed, src_rank, dst_rank)
        )
        last = self._first(dst.group, dst.node)
        middle = [self._fabric_first + i for i, crossed in columns if crossed]
        return (*head, *middle, *[last + i for i in trip.tail])

    def _trip(self, group: int, src: int, other: int, dst: int, same_node: bool) -> Trip:
        key = group, src, other, dst, same_node
        if key not in self._trips:
            self._trips[key] = self._find(*key)
        return self._trips[key]

    def _find(self, group: int, src: int, other: int, dst: int, same_node: bool) -> Trip:
        node, goal = self._nodes[group], self._nodes[other]
        within = node.within(src, dst) if same_node else None
        if within is not None:
            return Trip(within, (), 0, 0, True)
        if self._at:
            head = node.paths.find(node.names[src], self._at)
            tail = goal.paths.find(self._at, goal.names[dst])
            return Trip(head or (), tail or (), 0, 0, False)
        # Also for two devices of one node that nothing but their network cards joins.
        out_card, in_card = node.homes[src], goal.homes[dst]
        if self._fabric is not None and self._fabric.proxies and in_card < len(node.uplinks):
            reachable = node.paths.find(node.names[src], node.uplinks[in_card].source)
            out_card = out_card if reachable is None else in_card
        return Trip(node.leave(src, out_card), goal.enter(in_card, dst), out_card, in_card, False)

    def paths(self, sources: Ints, destinations: Ints) -> tuple[Ints, Ints]:
        """Where each route begins among the ids of all, and these ids."""
        lengths, links = [np.zeros(1, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for start in range(0, len(sources), CHUNK):
            matrix = self._matrix(sources[start : start + CHUNK], destinations[start : start + CHUNK])
            crossed = matrix >= 0
            lengths.append(crossed.sum(axis=1))
            links.append(matrix[crossed])
        return np.cumsum(np.concatenate(lengths)), np.concatenate(links)

    def _matrix(self, sources: Ints, destinations: Ints) -> Ints:
        """Ids of the links of each route, a row each, with -1 between them where others have more."""
        (group, node, src), (other, goal, dst) = self._layout.places(sources), self._layout.places(destinations)
        kinds, kind = self._kinds(group, src, other, dst, node == goal)
        outside = ~np.array([trip.inside for trip in kinds])[kind]
        columns = list(_shifted([trip.head for trip in kinds], kind, self._first_links(group, node)))
        if self._fabric is not None and outside.any():
            cards = np.array([(trip.out_card, trip.in_card) for trip in kinds])[kind].T
            chosen = draw(self._seed, sources, destinations)
            for ids, crossed in self._fabric.columns(node, cards[0], goal, cards[1], chosen):
                columns.append(np.where(outside & crossed, self._fabric_first + ids, -1))
        columns += _shifted([trip.tail for trip in kinds], kind, self._first_links(other, goal))
        return np.stack(columns, axis=1) if columns else np.full((len(sources), 0), -1)

    def _kinds(
        self, group: Ints, src: Ints, other: Ints, dst: Ints, same_node: NDArray[np.bool_]
    ) -> tuple[list[Trip], Ints]:
        """The different trips, and which of them each route makes."""
        parts = group, src, other, dst, same_node.astype(np.int64)
        sizes = tuple(int(part.max()) + 1 for part in parts)
        code = np.ravel_multi_index(parts, sizes)
        if prod(sizes) < len(code):
            counts = np.bincount(code)
            codes, kind = np.flatnonzero(counts), (np.cumsum(counts > 0) - 1)[code]
        else:
            codes, kind = np.unique(code, return_inverse=True)
        rows = zip(*(part.tolist() for part in np.unravel_index(codes, sizes)), strict=True)
        return [self._trip(a, b, c, d, bool(same)) for a, b, c, d, same in rows], kind

    def _first_links(self, group: Ints, node: Ints) -> Ints:
        firsts, first_nodes, strides = (np.array(x) for x in (self._firsts, self._first_nodes, self._strides))
        ids: Ints = firsts[group] + (node - first_nodes[group]) * strides[group]
        return ids


def _shifted(ways: Sequence[Way], kind: Ints, first: Ints) -> Iterator[Ints]:
    """Columns of ids: of each route the j-th link of its way, -1 where it has fewer."""
    for j in range(max(map(len, ways))):
        ids = np.array([way[j] if j < len(way) else -1 for way in ways])[kind]
        yield np.where(ids >= 0, first + ids, -1)
