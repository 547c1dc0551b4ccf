"""Lists of instructions as numbers, so that a hundred thousand of them are looked at in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.program.instructions import STREAM_OF, Instruction, Kind, Stream

Ints = NDArray[np.int64]
Work = tuple[Kind, int, int]
"""Kind, stage and part: an instruction without its micro-batch."""

STREAMS = tuple(Stream)
"""Streams by their numbers."""

KIND_NUMBERS = {kind: number for number, kind in enumerate(Kind)}
"""Position of each kind in ``tuple(Kind)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A list of instructions; rows in its order.

    Parameters
    ----------
    works
        Each work once.
    codes
        For each instruction the position of its work in ``works``.
    microbatches
        For each instruction its micro-batch, -1 where it has none.
    """

    works: tuple[Work, ...]
    codes: Ints
    microbatches: Ints

    def streams(self) -> Ints:
        """Return for each instruction the number of its stream."""
        return np.array([STREAMS.index(STREAM_OF[kind]) for kind, _, _ in self.works], np.int64)[self.codes]


def coded(instructions: Sequence[Instruction]) -> Coded:
    """Return a list as numbers."""
    if not instructions:
        return Coded((), np.zeros(0, np.int64), np.zeros(0, np.int64))
    names, *columns = zip(*instructions, strict=True)
    kinds = np.fromiter(map(KIND_NUMBERS.__getitem__, names), np.int64, len(names))
    stages, microbatches, parts = np.array(columns, np.int64)
    keys = (kinds * (stages.max() + 1) + stages) * (parts.max() + 2) + parts + 1
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    codes = np.empty_like(order)
    codes[order] = np.arange(len(order))
    works = tuple((kind, stage, part) for kind, stage, _, part in map(instructions.__getitem__, first[order].tolist()))
    return Coded(works, codes[which], microbatches)
