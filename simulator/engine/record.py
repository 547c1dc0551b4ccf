"""What a simulation notes of each task, and the spans that follow from it: written out when somebody looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from simulator.engine.course import Pace
from simulator.engine.script import Script
from simulator.program.coded import Ints
from simulator.program.instructions import STREAM_OF, Instruction, Stream
from simulator.program.liveness import held_after
from simulator.program.program import Program
from simulator.results.metrics import COMPUTES
from simulator.results.timeline import Curve, Span, Timeline, Times, curve

Floats = NDArray[np.float64]

Log = list[Any]
"""Of one task after the other, in order of end, five values: its number, counted on from step to step; when it was
issued; when it started, which in a task with collectives inside is when the first of them began; when it ended; the
pace of what is inside. One flat list, for a tuple of each task would be work for the garbage collector."""

LOGGED = 5
"""Values of one task."""


class RankRecord(NamedTuple):
    """What one rank did; times in seconds.

    Parameters
    ----------
    rank
        Global rank.
    script
        What it runs.
    log
        Its tasks.
    """

    rank: int
    script: Script
    log: Log

    def end(self, step: int) -> float:
        """Return when the rank was done with a step."""
        length = self.script.length
        last = next(at for at in range(len(self.log) - LOGGED, -1, -LOGGED) if self.log[at] // length == step)
        end: float = self.log[last + 3]
        return end

    def spans(self, step: int) -> list[Span]:
        """Return the spans of a step in order of end."""
        length = self.script.length
        spans: list[Span] = []
        for task, issued, start, end, pace in zip(*(self.log[column::LOGGED] for column in range(LOGGED)), strict=True):
            if task // length == step:
                instructions = self.script.of(task)
                if len(instructions) == 1:
                    spans.append(Span(self.rank, instructions[0], issued, start, end))
                else:
                    spans += self._inside(instructions, issued, start, end, pace)
        spans.sort(key=attrgetter("end"))
        return spans

    def times(self, step: int) -> Times:
        """Return when its instructions ran in a step."""
        task = np.array(self.log[::LOGGED])
        own = np.flatnonzero(task // self.script.length == step)
        issued, start, end = (np.array(self.log[column::LOGGED])[own] for column in (1, 2, 3))
        paces = self.log[4::LOGGED]
        shape = np.array(self.script.shapes)[task[own]]
        order = np.argsort(shape, kind="stable")
        parts = []
        for rows in np.split(order, np.flatnonzero(np.diff(shape[order])) + 1):
            kinds = self.script.kinds[shape[rows[0]]]
            if len(kinds) == 1:
                parts.append(Times(np.repeat(kinds, len(rows)), start[rows], end[rows]))
            else:
                inside = [paces[row] for row in own[rows].tolist()]
                parts.append(_times_inside(kinds, issued[rows], start[rows], end[rows], inside))
        return Times(*map(np.concatenate, zip(*parts, strict=True)))

    def _inside(
        self, instructions: list[Instruction], issued: float, start: float, last: float, pace: Pace
    ) -> Iterator[Span]:
        """Yield the spans of a task of several instructions."""
        origin = issued
        for instruction, (ready, begin, end) in zip(instructions, pace, strict=True):
            could = origin + ready
            if STREAM_OF[instruction.kind] is not Stream.COMPUTE:
                origin = start
            # Sums in another order may be an ulp beyond the end.
            yield Span(self.rank, instruction, min(could, last), min(origin + begin, last), min(origin + end, last))


def _times_inside(kinds: Ints, issued: Floats, start: Floats, last: Floats, paces: list[Pace]) -> Times:
    """Return when the instructions of some tasks of one shape ran; see `RankRecord._inside`."""
    numbers: dict[int, int] = {}
    which = [numbers.setdefault(id(pace), len(numbers)) for pace in paces]
    different = np.array(list({id(pace): pace for pace in paces}.values()))[:, :, 1:]
    together = np.maximum.accumulate(~COMPUTES[kinds])
    origin = np.where(together, start[:, None], issued[:, None])
    moments = np.minimum(origin[:, :, None] + different[which], last[:, None, None])
    return Times(np.tile(kinds, len(paces)), moments[:, :, 0].ravel(), moments[:, :, 1].ravel())


class Columns:
    """What a step's numbers are made of.

    Parameters
    ----------
    program
        Says what is held.
    records
        What each rank did.
    step
        In which of its steps.
    """

    def __init__(self, program: Program, records: Sequence[RankRecord], step: int) -> None:
        self._program = program
        self._records = {record.rank: record for record in records}
        self._step = step

    def times(self, rank: int) -> Times:
        """Return when a rank did what."""
        return self._records[rank].times(self._step)

    def peak(self, rank: int) -> float | None:
        """Return the most bytes of activations that a rank holds after its computations."""
        return max(held_after(self._program, self._program.plan.mesh.coordinate(rank, "pp")), default=None)


class Spans(Sequence[Span]):
    """The spans of a step, rank by rank, each rank's in order of end.

    Parameters
    ----------
    records
        What each rank did.
    step
        In which of its steps.
    """

    def __init__(self, records: Sequence[RankRecord], step: int) -> None:
        self._records = records
        self._step = step

    @cached_property
    def _all(self) -> tuple[Span, ...]:
        return tuple(chain.from_iterable(record.spans(self._step) for record in self._records))

    def __len__(self) -> int:
        return sum(len(record.script) for record in self._records)

    @overload
    def __getitem__(self, index: int) -> Span: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Span]: ...
    def __getitem__(self, index: int | slice) -> Span | Sequence[Span]:
        return self._all[index]

    def __iter__(self) -> Iterator[Span]:
        return iter(self._all)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all == tuple(other)

    def __hash__(self) -> int:
        return hash(self._all)


class Memory(Mapping[int, Curve]):
    """What each rank of a timeline holds after each computation.

    Parameters
    ----------
    program
        Says what instructions hold and free.
    timeline
        Says when.
    """

    def __init__(self, program: Program, timeline: Timeline) -> None:
        self._program = program
        self._timeline = timeline
        self._held: dict[int, list[float]] = {}

    def __getitem__(self, rank: int) -> Curve:
        if rank not in self._timeline.ranks:
            raise KeyError(rank)
        coordinate = self._program.plan.mesh.coordinate(rank, "pp")
        if coordinate not in self._held:
            self._held[coordinate] = held_after(self._program, coordinate)
        return curve(self._timeline.of(rank), self._held[coordinate])

    def __iter__(self) -> Iterator[int]:
        return iter(self._timeline.ranks)

    def __len__(self) -> int:
        return len(self._timeline.ranks)
