"""Nodes on a grid, each joined to its neighbours in every dimension: ring, mesh and torus."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod

from simulator.topology.fabrics.base import Columns, Index, Landmark, largest
from simulator.topology.links import Ends, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Torus:
    """A grid with or without wrap-around cables; messages go one dimension after the other (dimension order).

    Parameters
    ----------
    dims : tuple[int, ...]
        Nodes along each dimension; nodes are numbered with the last dimension fastest.
    wrap : bool
        Whether the last node of a line is joined to its first; lines of two have one cable anyway.
    bandwidth, cable_latency : float
        Bytes/s and seconds of one cable, per direction.
    at : str
        The endpoint of each node where the cables plug in.

    Notes
    -----
    Dimension-order (e-cube) routing, the shorter way round, upwards where both are equally long: Dally and Towles,
    Principles and Practices of Interconnection Networks (2004), section 8.4.
    """

    dims: tuple[int, ...]
    wrap: bool
    bandwidth: float
    cable_latency: float
    at: str
    direct = True
    latency = 0.0
    proxies = False

    def _stride(self, dim: int) -> int:
        return prod(self.dims[dim + 1 :])

    def _cables(self, dim: int) -> int:
        """Cables of one line; cable c joins the nodes c and c + 1 of the line."""
        size = self.dims[dim]
        return size if self.wrap and size > 2 else size - 1

    def _lines(self, dim: int) -> int:
        return prod(self.dims) // self.dims[dim]

    def _first(self, dim: int) -> int:
        return sum(2 * self._lines(before) * self._cables(before) for before in range(dim))

    def sections(self) -> list[Section]:
        """For each dimension the links upwards, then those downwards."""
        return [
            Section(
                self._lines(dim) * self._cables(dim),
                [(self.bandwidth, self.cable_latency)],
                partial(self._ends, dim, up),
            )
            for dim in range(len(self.dims))
            for up in (True, False)
        ]

    def _ends(self, dim: int, up: bool, index: int) -> Ends:
        line, cable = divmod(index, self._cables(dim))
        size, stride = self.dims[dim], self._stride(dim)
        start = line // stride * stride * size + line % stride
        low, high = start + cable * stride, start + (cable + 1) % size * stride
        source, destination = (low, high) if up else (high, low)
        return Ends(f"node{source}/{self.at}", f"node{destination}/{self.at}")

    def attach(self, node: int, card: int) -> str:
        """The node itself."""
        return f"node{node}/{self.at}"

    def columns(self, src: Index, src_card: Index, dst: Index, dst_card: Index, draw: Index) -> Columns:
        """All steps along the first dimension, then along the second, and so on."""
        columns: Columns = []
        here = src
        for dim, size in enumerate(self.dims):
            stride, cables = self._stride(dim), self._cables(dim)
            start, goal = here // stride % size, dst // stride % size
            ahead = (goal - start) % size
            up = (2 * ahead <= size) if cables == size else (goal >= start)
            steps = up * ahead + (1 - up) * ((start - goal) % size)
            line = here // (stride * size) * stride + here % stride
            first = self._first(dim) + (1 - up) * (self._lines(dim) * cables) + line * cables
            for step in range(largest(steps)):
                cable = (start + up * step - (1 - up) * (step + 1)) % size
                columns.append((first + cable, step < steps))
            here = here + (goal - start) * stride
        return columns

    def bisection(self) -> float:
        """The cables across the middle of the longest dimension."""
        size = max(self.dims)
        if size == 1:
            return float("inf")
        crossings = 2 if self.wrap and size > 2 else 1
        return crossings * (prod(self.dims) // size) * self.bandwidth

    def landmarks(self) -> Iterator[Landmark]:
        """A neighbour, and the node that is farthest away."""
        nodes = prod(self.dims)
        if nodes > 1:
            yield Landmark("neighbour", 1)
            away = [size // 2 if self.wrap else size - 1 for size in self.dims]
            farthest = sum(steps * self._stride(dim) for dim, steps in enumerate(away))
            if farthest != 1:
                yield Landmark("farthest", farthest)
