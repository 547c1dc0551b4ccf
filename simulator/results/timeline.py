"""The timeline of one training step: what ran where and when, predicted or measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.program.coded import KIND_NUMBERS
from simulator.program.instructions import STREAM_OF, Instruction, Stream

Curve = tuple[tuple[float, float], ...]
"""Bytes of activations that a rank holds: (instant, bytes from then on), beginning with its first computation."""


class Span(NamedTuple):
    """One instruction of one rank; times in seconds.

    Parameters
    ----------
    rank
        Global rank.
    instruction
        What ran.
    issued
        When the rank was ready for it.
    start
        When the work began: for communication, when the last participant had come.
    end
        When it was done.
    """

    rank: int
    instruction: Instruction
    issued: float
    start: float
    end: float


class Times(NamedTuple):
    """When a rank did what, as columns; rows in no order.

    Parameters
    ----------
    kinds
        Position in ``tuple(Kind)`` of what each instruction does.
    start, end
        Seconds.
    """

    kinds: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]


class Columns(Protocol):
    """What a step's numbers are made of, for timelines that have it without writing out each span."""

    def times(self, rank: int) -> Times:
        """Return when a recorded rank did what."""

    def peak(self, rank: int) -> float | None:
        """Return the most bytes of activations that a recorded rank holds, None if that is not known."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """One step.

    Parameters
    ----------
    source
        ``predicted`` or ``measured``.
    begin, end
        Window of the step, seconds.
    spans
        Of the recorded ranks, each rank's in order of end.
    ranks
        Recorded rank -> all ranks that it stands for (itself included). A simulation records one of each class of
        ranks that are provably identical; a measurement records all.
    memory
        Recorded rank -> its activations; empty where they are not known.
    columns
        The same in short; without, it is gathered from the spans.
    """

    source: str
    begin: float
    end: float
    spans: Sequence[Span]
    ranks: Mapping[int, tuple[int, ...]]
    memory: Mapping[int, Curve] = field(default_factory=dict)
    columns: Columns | None = field(default=None, repr=False, compare=False)
    _by_rank: dict[int, list[Span]] = field(init=False, default_factory=dict, repr=False, compare=False)

    @property
    def step_time(self) -> float:
        """Seconds of the step."""
        return self.end - self.begin

    @property
    def first(self) -> float:
        """When the first rank began to work on the step: before ``begin`` if ranks do not wait for each other."""
        return min([self.begin, *(span.start for span in self.spans)])

    def of(self, rank: int) -> list[Span]:
        """Return the spans of a recorded rank."""
        if not self._by_rank:
            self._by_rank.update({recorded: [] for recorded in self.ranks})
            for span in self.spans:
                self._by_rank[span.rank].append(span)
        return self._by_rank[rank]

    def times(self, rank: int) -> Times:
        """Return when a recorded rank did what."""
        if self.columns:
            return self.columns.times(rank)
        spans = self.of(rank)
        kinds = np.array([KIND_NUMBERS[span.instruction.kind] for span in spans], np.int64)
        return Times(
            kinds, np.array([span.start for span in spans], float), np.array([span.end for span in spans], float)
        )

    def peak(self, rank: int) -> float | None:
        """Return the most bytes of activations that a recorded rank holds, None if that is not known."""
        if self.columns:
            return self.columns.peak(rank)
        return max((size for _, size in self.memory.get(rank, ())), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, instructions in their text form."""
        return {
            "source": self.source,
            "begin": self.begin,
            "end": self.end,
            "ranks": {str(rank): list(members) for rank, members in self.ranks.items()},
            "memory": {str(rank): [list(point) for point in points] for rank, points in self.memory.items()},
            "spans": [[span.rank, str(span.instruction), span.issued, span.start, span.end] for span in self.spans],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Timeline:
        """Return the timeline that ``to_json`` wrote."""
        return cls(
            source=data["source"],
            begin=data["begin"],
            end=data["end"],
            ranks={int(rank): tuple(members) for rank, members in data["ranks"].items()},
            memory={
                int(rank): tuple((instant, size) for instant, size in points)
                for rank, points in data.get("memory", {}).items()
            },
            spans=tuple(
                Span(rank, Instruction.parse(text), issued, start, end)
                for rank, text, issued, start, end in data["spans"]
            ),
        )


def curve(spans: Iterable[Span], held: Sequence[float]) -> Curve:
    """Return the activations of a rank over time.

    Parameters
    ----------
    spans
        Of the rank, in order of end.
    held
        Bytes after each of its computations, in order.
    """
    computed = [span for span in spans if STREAM_OF[span.instruction.kind] is Stream.COMPUTE]
    begin = [(computed[0].start, 0.0)] if computed else []
    return (*begin, *((span.end, size) for span, size in zip(computed, held, strict=True)))
