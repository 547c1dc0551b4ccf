"""What happens inside a task of several instructions: computations, and collectives that nobody else slows down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple


class Work(NamedTuple):
    """An instruction of a task on one kind of device; times in seconds.

    Parameters
    ----------
    computes
        Otherwise it is a collective.
    need
        Position in the task of the instruction of the other lane that it waits for, -1 without.
    seconds
        Of computing.
    launch
        Of the host that launches its kernels: the device cannot run them faster.
    waits
        Whether the host waits for the device before that.
    """

    computes: bool
    need: int
    seconds: float = 0.0
    launch: float = 0.0
    waits: bool = False


Pace = tuple[tuple[float, float, float], ...]
"""When each instruction of a task could begin, began and ended: seconds after the task was issued, but after its first
collective began for all that follows from then on."""


class Course(NamedTuple):
    """What a rank does in a task, or before its first collective.

    Parameters
    ----------
    pace
        What happens when.
    end
        When it is over, seconds.
    host
        When its host has launched everything, seconds.
    """

    pace: Pace
    end: float
    host: float


class _Rank:
    """How far a rank is in a task; seconds."""

    def __init__(self, host: float, done: Pace = ()) -> None:
        self.host = host
        self.now = 0.0
        self.pace = list(done)
        self.ends = [0.0] * len(done)

    def compute(self, work: Work) -> None:
        """Compute as soon as what is needed is there, no faster than the host launches."""
        begin = max(self.now, self.ends[work.need]) if work.need >= 0 else self.now
        self.host = (max(self.host, begin) if work.waits else self.host) + work.launch
        self.now = max(begin + work.seconds, self.host)
        self.note(begin, begin, self.now)

    def note(self, *moments: float) -> None:
        """Remember when an instruction could begin, began and ended."""
        ready, begin, end = moments
        self.pace.append((ready, begin, end))
        self.ends.append(end)

    def course(self) -> Course:
        """Return what was done."""
        return Course(tuple(self.pace), self.now, self.host)


def lead(works: Sequence[Work], host: float) -> Course:
    """Return what a rank does by itself: all of a task, or what stands before its first collective.

    Parameters
    ----------
    works
        The task.
    host
        When the host can begin to launch; times count from when the task was issued.
    """
    rank = _Rank(host)
    for work in takewhile(lambda work: work.computes, works):
        rank.compute(work)
    return rank.course()


def together(begun: Sequence[tuple[Sequence[Work], Course]], durations: Iterable[float]) -> list[Course]:
    """Return what ranks that meet in the collectives of a task do; times count from when the first of these begins.

    Parameters
    ----------
    begun
        For each kind of rank the task, and what it did before; of that only the host's time counts like this.
    durations
        Seconds of each collective.
    """
    times, lane = iter(durations), 0.0
    ranks = [_Rank(before.host, before.pace) for _, before in begun]
    first = len(ranks[0].pace)
    for column in range(first, len(begun[0][0])):
        computes, need, *_ = begun[0][0][column]
        if computes:
            for rank, (works, _) in zip(ranks, begun, strict=True):
                rank.compute(works[column])
        else:
            ready = [max(lane, rank.ends[need]) if need >= 0 else lane for rank in ranks]
            begin = max(ready)
            lane = begin + next(times)
            for rank, own in zip(ranks, ready, strict=True):
                rank.note(own, begin, lane)
    for rank, (_, before) in zip(ranks, begun, strict=True):
        rank.pace[first] = (before.end, *rank.pace[first][1:])
    return [rank.course() for rank in ranks]
