"""Random-looking numbers of 64 bits for rows of tables: two that should differ are equal once in some 10^19 pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = np.uint64(0x9E3779B97F4A7C15)
"""Constants of SplitMix64 (Steele, Lea, Flood 2014), a bijection of 64-bit numbers that looks random."""


def mixed(values: NDArray[np.generic]) -> Hashes:
    """Return for each value a number that looks random: equal for equal values."""
    bits = values.view(np.uint64) if values.dtype.itemsize == np.uint64().itemsize else values.astype(np.uint64)
    bits = bits + _STEP
    bits ^= bits >> np.uint64(30)
    bits *= _MULTIPLIERS[0]
    bits ^= bits >> np.uint64(27)
    bits *= _MULTIPLIERS[1]
    bits ^= bits >> np.uint64(31)
    return bits


def combined(*columns: NDArray[np.generic]) -> Hashes:
    """Return a number for each row of some columns."""
    hashes = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        hashes = mixed(hashes ^ mixed(column))
    return hashes


def of_rows(matrix: NDArray[np.int64]) -> Hashes:
    """Return a number for each row of a matrix, however wide."""
    places = mixed(np.arange(matrix.shape[1]))
    hashes: Hashes = mixed(mixed(matrix) ^ places).sum(axis=1, dtype=np.uint64)
    return hashes


def sums(places: NDArray[np.int64], values: Hashes, size: int) -> Hashes:
    """Return the sum of the values at each place: the number of a multiset."""
    totals = np.zeros(size, np.uint64)
    np.add.at(totals, places, values)
    return totals
