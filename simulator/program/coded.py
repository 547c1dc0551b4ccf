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
    works: dict[Work, int] = {}
    known = works.setdefault
    codes = [known((kind, stage, part), len(works)) for kind, stage, _, part in instructions]
    microbatches = [microbatch for _, _, microbatch, _ in instructions]
    return Coded(tuple(works), np.array(codes, np.int64), np.array(microbatches, np.int64))
