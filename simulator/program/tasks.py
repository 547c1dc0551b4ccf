"""Tasks: one instruction, or several of a rank that run back to back whatever anybody else does.

A rank that computes, sums over its tensor-parallel group and computes on waits for nobody but that group, which does
the same. An interpreter with a clock may then treat the whole as one: what happens inside follows from when it began.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from simulator.program.coded import STREAMS, Coded, Ints, coded
from simulator.program.dependencies import Needs, needs_of
from simulator.program.instructions import Instruction, Kind, Lane, Stream
from simulator.program.program import Program


class Merging(IntEnum):
    """What is merged into tasks."""

    NOTHING = 0
    COMPUTE = 1
    """Computations in a row."""
    COLLECTIVES = 2
    """Tensor-parallel collectives between computations too: they must take times that nobody else changes."""


@dataclass(frozen=True, slots=True)
class TaskList:
    """The tasks of one pipeline coordinate.

    Parameters
    ----------
    positions
        For each task the positions of its instructions in the coordinate's list, in running order. A task of several
        begins and ends with a computation.
    shapes
        For each task a number that tasks share which do the same for other micro-batches.
    lanes
        Queue of each lane; a task of several is in that of the computations.
    lane_of
        For each task the position of its lane in ``lanes``.
    followers
        For each task those that wait for it: the next one in its lane, then tasks of other lanes.
    missing
        For each task how many it waits for.
    """

    positions: tuple[tuple[int, ...], ...]
    shapes: tuple[int, ...]
    lanes: Mapping[Lane, tuple[int, ...]]
    lane_of: tuple[int, ...]
    followers: tuple[tuple[int, ...], ...]
    missing: tuple[int, ...]


def tasks(program: Program, pipeline_rank: int, merging: Merging) -> TaskList:
    """Return the tasks of a pipeline coordinate; they are worked out once for a program."""
    key = (pipeline_rank, int(merging))
    if key not in program.kept_tasks:
        program.kept_tasks[key] = _task_list(program, program.lists[pipeline_rank], merging)
    return program.kept_tasks[key]


def _task_list(program: Program, instructions: tuple[Instruction, ...], merging: Merging) -> TaskList:
    numbers = coded(instructions)
    needs = needs_of(program, instructions, numbers)
    begins = merged(numbers, needs, merging)
    if begins is None:
        begins = merged(numbers, needs, Merging.COMPUTE)
        assert begins is not None, "computations in a row keep every order"
    # The tasks are numbered by their first instructions.
    is_first = begins == np.arange(len(begins))
    task_of = (np.cumsum(is_first) - 1)[begins]
    order = np.argsort(task_of, kind="stable")
    bounds = np.cumsum(np.bincount(task_of))[:-1]
    first = numbers.codes[is_first]
    lane_of_work = [Instruction(kind, stage).lane for kind, stage, _ in numbers.works]
    lanes: dict[Lane, int] = {}
    # Of works that begin tasks: the lane of collectives is empty where all of them are inside.
    known = {code: lanes.setdefault(lane_of_work[code], len(lanes)) for code in dict.fromkeys(first.tolist())}
    lane_of = np.array([known[code] for code in first.tolist()], np.int64)
    queues = {lane: tuple(np.flatnonzero(lane_of == number).tolist()) for lane, number in lanes.items()}
    shapes: dict[bytes, int] = {}
    followers, missing = _waiting(queues.values(), task_of, Needs(*(column[is_first[needs.position]] for column in needs)))
    return TaskList(
        positions=tuple(tuple(each.tolist()) for each in np.split(order, bounds)),
        shapes=tuple(shapes.setdefault(each.tobytes(), len(shapes)) for each in np.split(numbers.codes[order], bounds)),
        lanes=queues,
        lane_of=tuple(lane_of.tolist()),
        followers=followers,
        missing=missing,
    )


def _waiting(
    queues: Iterable[tuple[int, ...]], task_of: Ints, needs: Needs
) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Return for each task those that wait for it, the next one in its lane first, and for how many each waits."""
    size = int(task_of.max()) + 1
    before = np.concatenate([*(queue[:-1] for queue in queues), task_of[needs.need]]).astype(np.int64)
    after = np.concatenate([*(queue[1:] for queue in queues), task_of[needs.position]]).astype(np.int64)
    order = np.argsort(before, kind="stable")
    bounds = np.cumsum(np.bincount(before, minlength=size))[:-1]
    followers = tuple(tuple(each.tolist()) for each in np.split(after[order], bounds))
    return followers, tuple(np.bincount(after, minlength=size).tolist())


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


def _latest(here: Ints, chosen: NDArray[np.bool_]) -> Ints:
    """Return for each position the latest chosen one before it, -1 without."""
    return np.append(-1, np.maximum.accumulate(np.where(chosen, here, -1)))[:-1]


def _known(needs: Needs, is_compute: NDArray[np.bool_], is_collective: NDArray[np.bool_]) -> Ints:
    """Return for each position up to where the collectives are done when the computations before it began."""
    known = np.full(len(is_compute), -1)
    rows = is_compute[needs.position] & is_collective[needs.need]
    np.maximum.at(known, needs.position[rows], needs.need[rows])
    result: Ints = np.maximum.accumulate(known)
    return result


def _keeps_order(
    here: Ints,
    needs: Needs,
    is_compute: NDArray[np.bool_],
    is_collective: NDArray[np.bool_],
    inner: NDArray[np.bool_],
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
