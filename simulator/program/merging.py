"""Which instructions of a rank run back to back whatever anybody else does, so that they are one task.

A rank that computes, sums over its tensor-parallel group and computes on waits for nobody but that group, which does
the same. An interpreter with a clock may then treat the whole as one: what happens inside follows from when it began.
"""

from __future__ import annotations

from enum import IntEnum

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


def merged(numbers: Coded, needs: Needs, merging: Merging) -> Ints | None:
    """Return for each instruction where its task begins; None if the lane of collectives has an order that forbids it.

    An instruction joins the computations before it if it begins when they end, not earlier and not later, and if nobody
    outside waits for what is inside. Instructions of other lanes may stand between them.
    """
    size = len(numbers.codes)
    here, streams = np.arange(size), numbers.streams()
    is_compute, is_collective = (streams == STREAMS.index(each) for each in (Stream.COMPUTE, Stream.TP))
    counts, wanted = (np.bincount(column, minlength=size) for column in needs)
    only = np.full(size, -1)
    only[needs.position] = needs.need
    only[counts != 1] = -1
    computed = _latest(here, is_compute)
    # Updates are what the next step's gathering waits for, so nothing joins them.
    updates = np.array([kind is Kind.OPTIM for kind, _, _ in numbers.works], bool)[numbers.codes]
    # What a lane of its own began with has no computation before it: -1, whose row nobody reads.
    open_wanted = np.where((computed < 0) | updates[computed], -1, wanted[computed])

    inner = np.zeros(size, bool)
    if merging is Merging.COLLECTIVES:
        inner = is_collective & (only == computed) & (open_wanted == 1) & (wanted == 1)
        inner &= _latest(here, is_collective) <= _known(needs, is_compute, is_collective)
        # The next computation must wait for it alone, before another collective comes.
        events = np.flatnonzero(is_compute | is_collective)
        then = np.append(events[1:], -1)
        inner[events] &= is_compute[then] & (only[then] == events) & (then >= 0)
    joins = is_compute & (only >= 0) & inner[only]
    if merging:
        joins |= is_compute & (counts == 0) & (open_wanted == 0)
    if merging is Merging.COLLECTIVES and not _keeps_order(here, needs, is_compute, is_collective, inner):
        return None
    firsts = np.maximum.accumulate(np.where(is_compute & ~joins, here, -1))
    return np.where(joins | inner, firsts, here)


def _latest(here: Ints, chosen: Bools) -> Ints:
    """Return for each position the latest chosen one before it, -1 without."""
    return np.append(-1, np.maximum.accumulate(np.where(chosen, here, -1)))[:-1]


def _known(needs: Needs, is_compute: Bools, is_collective: Bools) -> Ints:
    """Return for each position up to where the collectives are done when the computations before it began."""
    known = np.full(len(is_compute), -1)
    rows = is_compute[needs.position] & is_collective[needs.need]
    np.maximum.at(known, needs.position[rows], needs.need[rows])
    result: Ints = np.maximum.accumulate(known)
    return result


def _keeps_order(
    here: Ints,
    needs: Needs,
    is_compute: Bools,
    is_collective: Bools,
    inner: Bools,
) -> bool:
    """Return whether a collective alone never comes before one inside a task that stands before it in the lane."""
    collectives = np.flatnonzero(is_collective)
    if not len(collectives):
        return True
    latest_need = np.full(len(here), -1)
    np.maximum.at(latest_need, needs.position, needs.need)
    alone = is_collective & ~inner
    late = alone & (_latest(here, inner) > latest_need)
    # Otherwise the first collective of a following step might have to wait for the last one.
    done = _known(needs, is_compute, is_collective)[-1] == collectives[-1]
    return bool(done) and not late.any()
