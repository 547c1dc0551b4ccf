"""Tasks: one instruction, or several of a rank that run back to back (``merging.py``), and who waits for whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from simulator.program.coded import Coded, Ints
from simulator.program.dependencies import Needs, needs_of
from simulator.program.instructions import STREAM_OF, Instruction, Lane, Stream
from simulator.program.merging import Merging, merged
from simulator.program.program import Program


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
    examples
        One task of each shape.
    waits
        For each shape and each of its instructions the place in the task of what it waits for, -1 without.
    meeting_lanes
        For each shape the lane in which it meets other ranks, that of its collectives; without, that of computations.
    lanes
        Queue of each lane; a task of several is in that of the computations.
    followers
        For each task those that wait for it: the next one in its lane, then tasks of other lanes.
    missing
        For each task how many it waits for.
    """

    positions: tuple[tuple[int, ...], ...]
    shapes: tuple[int, ...]
    examples: tuple[int, ...]
    waits: tuple[tuple[int, ...], ...]
    meeting_lanes: tuple[Lane, ...]
    lanes: Mapping[Lane, tuple[int, ...]]
    followers: tuple[tuple[int, ...], ...]
    missing: tuple[int, ...]


def tasks(program: Program, pipeline_rank: int, merging: Merging) -> TaskList:
    """Return the tasks of a pipeline coordinate; they are worked out once for a program."""
    key = ("tasks", pipeline_rank, merging)
    return program.keep(key, lambda: _task_list(program, pipeline_rank, merging))


def _task_list(program: Program, pipeline_rank: int, merging: Merging) -> TaskList:
    instructions, numbers = program.lists[pipeline_rank], program.coded(pipeline_rank)
    needs = _once(numbers, needs_of(program, instructions, numbers))
    begins = merged(numbers, needs, merging)
    # Tasks are numbered by their first instructions.
    is_first = begins == np.arange(len(begins))
    task_of = (np.cumsum(is_first) - 1)[begins]
    positions = _grouped(np.arange(len(begins)), task_of)
    waits = _grouped(_inner(needs, task_of), task_of)
    numbers_of_shapes: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    alike = zip(_grouped(numbers.codes, task_of), waits, strict=True)
    shapes = [numbers_of_shapes.setdefault(each, len(numbers_of_shapes)) for each in alike]
    examples = list({shape: task for task, shape in enumerate(shapes)}.values())
    lanes = [Instruction(kind, stage).lane for kind, stage, _ in numbers.works]
    queues: dict[Lane, list[int]] = {}
    for task, code in enumerate(numbers.codes[is_first].tolist()):
        queues.setdefault(lanes[code], []).append(task)
    outer = Needs(*(task_of[column[is_first[needs.position]]] for column in needs))
    before = np.concatenate([*(queue[:-1] for queue in queues.values()), outer.need]).astype(np.int64)
    after = np.concatenate([*(queue[1:] for queue in queues.values()), outer.position]).astype(np.int64)
    return TaskList(
        positions=tuple(positions),
        shapes=tuple(shapes),
        examples=tuple(examples),
        waits=tuple(waits[task] for task in examples),
        meeting_lanes=tuple(_meeting_lane([instructions[at] for at in positions[task]]) for task in examples),
        lanes={lane: tuple(queue) for lane, queue in queues.items()},
        followers=tuple(_grouped(after, before, len(positions))),
        missing=tuple(np.bincount(after, minlength=len(positions)).tolist()),
    )


def _once(numbers: Coded, needs: Needs) -> Needs:
    """Leave out what an instruction need not wait for: the same lane's order makes it wait for as much.

    A lane begins and ends in order, so whoever waits for one of its instructions waits for all before it, and so do
    those behind him in his own lane.
    """
    ids: dict[Lane, int] = {}
    lanes = [ids.setdefault(Instruction(kind, stage).lane, len(ids)) for kind, stage, _ in numbers.works]
    here, there = (np.array(lanes, np.int64)[numbers.codes][column] for column in needs)
    rows = np.flatnonzero(here != there)
    pair, position, need = (here * len(ids) + there)[rows], needs.position[rows], needs.need[rows]
    order = np.lexsort((-need, position, pair))
    # Pairs ascend, so that what is reached in one is nothing in the next.
    reached = pair[order] * len(numbers.codes) + need[order]
    new = reached > np.append(-1, np.maximum.accumulate(reached))[:-1]
    kept = np.sort(rows[order[new]])
    return Needs(needs.position[kept], needs.need[kept])


def _inner(needs: Needs, task_of: Ints) -> Ints:
    """Return for each instruction the place in its task of the one that it waits for, -1 without."""
    order = np.argsort(task_of, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order)) - np.searchsorted(task_of[order], task_of[order])
    rows = task_of[needs.position] == task_of[needs.need]
    waits = np.full(len(order), -1)
    np.maximum.at(waits, needs.position[rows], place[needs.need[rows]])
    return waits


def _grouped(values: Ints, groups: Ints, size: int = 0) -> list[tuple[int, ...]]:
    """Return the values of each group, in their order."""
    listed = values[np.argsort(groups, kind="stable")].tolist()
    ends = np.cumsum(np.bincount(groups, minlength=size)).tolist()
    return [tuple(listed[first:end]) for first, end in pairwise([0, *ends])]


def _meeting_lane(instructions: list[Instruction]) -> Lane:
    return max(instructions, key=lambda each: STREAM_OF[each.kind] is not Stream.COMPUTE).lane
