"""The grid of ranks: rank <-> coordinates, and the process groups along each axis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

AXES = ("pp", "dp", "cp", "tp")
"""Axis names in their default order, outermost first: neighbouring ranks share a tensor-parallel group."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A grid of ranks with named axes, the last one varying fastest.

    Parameters
    ----------
    axes
        Axis names, outermost first.
    sizes
        Ranks along each axis, in the order of ``axes``.

    Examples
    --------
    >>> mesh = Mesh(("pp", "dp", "tp"), (2, 1, 2))
    >>> mesh.coordinates(3)["pp"], mesh.group(3, "tp"), mesh.shift(3, "pp", -1)
    (1, (2, 3), 1)
    """

    axes: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return math.prod(self.sizes)

    def size(self, axis: str) -> int:
        """Return the number of ranks along an axis."""
        return self.sizes[self.axes.index(axis)]

    def stride(self, axis: str) -> int:
        """Return the distance in rank numbers of neighbours along an axis."""
        return math.prod(self.sizes[self.axes.index(axis) + 1 :])

    def coordinate(self, rank: int, axis: str) -> int:
        """Return a rank's position along one axis."""
        return rank // self.stride(axis) % self.size(axis)

    def coordinates(self, rank: int) -> Mapping[str, int]:
        """Return a rank's position along every axis."""
        return MappingProxyType({axis: self.coordinate(rank, axis) for axis in self.axes})

    def group(self, rank: int, *axes: str) -> tuple[int, ...]:
        """Return the ranks that differ from ``rank`` along some axes only, itself included, ascending."""
        first = rank - sum(self.coordinate(rank, axis) * self.stride(axis) for axis in axes)
        return tuple(first + offset for offset in self._offsets(axes))

    def _offsets(self, axes: tuple[str, ...]) -> list[int]:
        """Return the distances of the members of a group from its first rank, ascending."""
        steps = [range(0, self.size(axis) * self.stride(axis), self.stride(axis)) for axis in axes]
        return sorted(map(sum, product(*steps)))

    def groups(self, axis: str) -> list[tuple[int, ...]]:
        """Return all groups along an axis."""
        return [self.group(rank, axis) for rank in range(self.world_size) if self.coordinate(rank, axis) == 0]

    def move(self, rank: int, axis: str, coordinate: int) -> int:
        """Return the rank at another place along an axis, the same along all others."""
        return rank + (coordinate - self.coordinate(rank, axis)) * self.stride(axis)

    def shift(self, rank: int, axis: str, step: int) -> int:
        """Return the neighbour ``step`` further along an axis, wrapping around."""
        return self.move(rank, axis, (self.coordinate(rank, axis) + step) % self.size(axis))

    def along(self, axis: str) -> NDArray[np.int64]:
        """Return each rank's position along one axis, in rank order."""
        ranks: NDArray[np.int64] = np.arange(self.world_size) // self.stride(axis) % self.size(axis)
        return ranks

    def ranks_at(self, axis: str, coordinate: int) -> NDArray[np.int64]:
        """Return the ranks at one place along an axis, ascending."""
        ranks = np.arange(self.world_size).reshape(-1, self.size(axis), self.stride(axis))
        return ranks[:, coordinate].ravel()

    def group_table(self, *axes: str) -> NDArray[np.int64]:
        """Return all groups along some axes, one a row, in the order of their first ranks."""
        first = np.flatnonzero(sum(self.along(axis) for axis in axes) == 0)
        return first[:, None] + np.array(self._offsets(axes), np.int64)
