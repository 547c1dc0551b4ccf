"""What a simulation notes of each task, and the spans that follow from it: written out when somebody looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from operator import attrgetter
from typing import NamedTuple, overload

from simulator.engine.script import Script, TaskCost
from simulator.program.instructions import STREAM_OF, Stream
from simulator.program.liveness import held_after
from simulator.program.program import Program
from simulator.results.timeline import Curve, Span, Timeline, curve

Pace = tuple[tuple[float, float], ...]
"""Begin and end of each collective inside a task, seconds after the first of them began."""


class Record(NamedTuple):
    """One task of one rank; times in seconds.

    Parameters
    ----------
    rank
        Global rank.
    script, cost
        What the rank runs, and what its computations cost.
    task
        Number of the task, counted on from step to step.
    issued, start, end
        As of a span; ``start`` of a task with collectives inside is when the first of them began.
    pace
        Of the collectives inside.
    """

    rank: int
    script: Script
    cost: TaskCost
    task: int
    issued: float
    start: float
    end: float
    pace: Pace

    def spans(self) -> Iterator[Span]:
        """Yield the spans of its instructions in order."""
        instructions = self.script.of(self.task)
        collectives = iter(self.pace)
        clock = self.issued
        for instruction in instructions[:-1]:
            issued = clock
            if STREAM_OF[instruction.kind] is Stream.COMPUTE:
                # Sums in another order may be an ulp beyond the end.
                clock = min(issued + self.cost.seconds(instruction), self.end)
                yield Span(self.rank, instruction, issued, issued, clock)
            else:
                begin, end = next(collectives)
                clock = min(self.start + end, self.end)
                yield Span(self.rank, instruction, issued, min(self.start + begin, clock), clock)
        alone = len(instructions) == 1
        yield Span(self.rank, instructions[-1], clock, self.start if alone else clock, self.end)


class Spans(Sequence[Span]):
    """The spans of a step, each rank's in order of end.

    Parameters
    ----------
    records
        In order of end.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    @cached_property
    def _all(self) -> tuple[Span, ...]:
        spans = chain.from_iterable(record.spans() for record in self._records)
        return tuple(sorted(spans, key=attrgetter("end")))

    def __len__(self) -> int:
        return sum(len(record.script.positions(record.task)) for record in self._records)

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
