"""Which instructions of a rank run back to back whatever anybody else does, so that they are one task.

A rank that computes, sums over its tensor-parallel group and computes on waits for nobody but that group, which does
the same. An interpreter with a clock may then treat the whole as one: what happens inside follows from when it began.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.program.coded import STREAMS, Coded, Ints
from simulator.program.dependencies import Needs
from simulator.program.instructions import Kind, Stream

Bools = NDArray[np.bool_]


class Merging(IntEnum):
    """What is merged into tasks."""

    NOTHING = 0
    COMPUTE = 1
    """Computations in a row."""
    COLLECTIVES = 2
    """Tensor-parallel collectives between computations too: they must take times that nobody else changes."""


class _Events(NamedTuple):
    """Computations and collectives of a list in its order, those of other lanes left out; rows are numbered from 0.

    Parameters
    ----------
    position
        In the list.
    computes
        Whether it is a computation.
    awaits, follows
        The latest collective, and the latest computation, that it waits for; -1 without.
    is_bound, is_wanted
        Whether it waits for another lane, and whether another lane waits for it.
    updates
        Whether it updates parameters: what the next step's gathering waits for, so that nothing joins it.
    """

    position: Ints
    computes: Bools
    awaits: Ints
    follows: Ints
    is_bound: Bools
    is_wanted: Bools
    updates: Bools


def merged(numbers: Coded, needs: Needs, merging: Merging) -> Ints:
    """Return for each instruction where its task begins; instructions of other lanes may stand between its own.

    Parameters
    ----------
    numbers
        A rank's list.
    needs
        Who waits for whom, without what follows from the order of the lanes.
    merging
        What may be merged.
    """
    begins = np.arange(len(numbers.codes))
    streams = [Stream.COMPUTE, Stream.TP][:merging]
    events = _events(numbers, needs, [STREAMS.index(each) for each in streams])
    if not events.computes.any():
        return begins
    joins = _joins(events)
    if not _keeps_order(events, joins):
        return merged(numbers, needs, Merging.COMPUTE)
    rows = np.arange(len(joins))
    firsts = np.maximum.accumulate(np.where(joins, -1, rows))
    begins[events.position] = events.position[firsts]
    return begins


def _events(numbers: Coded, needs: Needs, streams: list[int]) -> _Events:
    of = numbers.streams()
    position = np.flatnonzero(np.isin(of, streams))
    row = np.full(len(of), -1)
    row[position] = np.arange(len(position))
    computes = of == STREAMS.index(Stream.COMPUTE)
    waiting, need = (row[column] for column in needs)
    ours, inside = waiting >= 0, (waiting >= 0) & (need >= 0)
    awaits, follows = np.full((2, len(position)), -1)
    for latest, rows in ((awaits, inside & ~computes[needs.need]), (follows, inside & computes[needs.need])):
        np.maximum.at(latest, waiting[rows], need[rows])
    is_bound, is_wanted = np.zeros((2, len(position)), bool)
    is_bound[waiting[ours & ~inside]] = True
    is_wanted[need[(need >= 0) & ~ours]] = True
    updates = np.array([kind is Kind.OPTIM for kind, _, _ in numbers.works], bool)[numbers.codes]
    return _Events(position, computes[position], awaits, follows, is_bound, is_wanted, updates[position])


def _joins(events: _Events) -> Bools:
    """Return for each event whether it is in one task with the one before it.

    A computation is *clear* when each collective before it has been waited for, and each behind it waits for it. Events
    up to a clear computation join the one before them, all or none, if nothing in them waits for other lanes, if nobody
    waits for what is not the last, and if the first computation behind their first collective waits for one: then all
    ranks of the group have met, and what follows takes equal times whenever they came.
    """
    rows, computes = np.arange(len(events.position)), events.computes
    clear = _clear(events)
    before, computed = _latest_before(clear), _latest_before(computes)
    fits = ~events.is_bound & (before >= 0) & ~events.updates[before]
    fits &= ~computes | (before + 1 == rows) | (computed != before) | (events.awaits >= 0)
    # Events after the last clear computation belong to nobody.
    stretch: Ints = np.cumsum(clear) - clear
    fits[stretch == clear.sum()] = False
    starts = np.flatnonzero(np.append(True, stretch[1:] != stretch[:-1]))
    wanted = events.is_wanted.copy()
    while True:
        free = fits & ~np.append(False, wanted[:-1])
        joins = np.logical_and.reduceat(free, starts)[stretch]
        # Whoever waits by himself waits for the end of a task.
        alone = events.follows[~joins & ~computes]
        if wanted[alone[alone >= 0]].all():
            return joins
        wanted[alone[alone >= 0]] = True


def _clear(events: _Events) -> Bools:
    """Return which events are computations during which no collective can be on its way."""
    rows, computes = np.arange(len(events.position)), events.computes
    awaited = np.maximum.accumulate(np.where(computes, events.awaits, -1))
    # The lane keeps its order, so whoever stands in it begins no earlier than what those before him waited for.
    follows = np.maximum.accumulate(np.where(computes, -1, events.follows))
    following = np.append(np.minimum.accumulate(np.where(computes, len(rows), follows)[::-1])[::-1][1:], len(rows))
    result: Bools = computes & (awaited >= _latest_before(~computes)) & (following >= rows)
    return result


def _latest_before(chosen: Bools) -> Ints:
    """Return for each row the latest chosen one before it, -1 without."""
    rows = np.where(chosen, np.arange(len(chosen)), -1)
    return np.append(-1, np.maximum.accumulate(rows)[:-1])


def _keeps_order(events: _Events, joins: Bools) -> bool:
    """Return whether a collective by itself never comes before one inside a task that stands before it in the lane."""
    computes = events.computes
    collectives = np.flatnonzero(~computes)
    if not len(collectives):
        return True
    follows = np.maximum.accumulate(events.follows[collectives])
    late = ~joins[collectives] & (_latest_before(joins & ~computes)[collectives] > follows)
    # Otherwise the first collective of a following step might have to wait for the last one.
    done = events.awaits[computes].max() == collectives[-1]
    return bool(done) and not late.any()
