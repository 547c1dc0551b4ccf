"""A schedule read from text: one row of actions per rank, torch pipelining's CSV of compute actions."""

from __future__ import annotations

import re

from simulator.errors import Diagnostic, InputError, quote
from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules.base import Options, Problem, Schedule, ScheduleKind
from simulator.program.schedules.one_step import Step

_CELL = re.compile(r"[^,\s]+")
_PAIR = re.compile(r"\(([^()]*)\)OVERLAP_F_B")
_KINDS = {letter: Kind[letter] for letter in "FBIW"}
_ACTION = re.compile(r"(\d{1,9})([FBIW])(\d{1,9})")


def custom(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule that ``options.text`` writes down, after checking that it is one training step.

    Cells are separated by commas or blanks and may be empty. A stage belongs to the rank in whose row it stands. That
    ranks do not wait for each other in a circle is for ``verify`` to find.

    Raises
    ------
    InputError
        Cells that are no compute actions; missing, repeated or misplaced actions.
    """
    path = options.path or "text"
    rows = options.text.rstrip().splitlines()
    step = Step(num_microbatches)
    found: list[Diagnostic] = []
    orders: list[list[Instruction]] = [[] for _ in rows]
    for rank, row in enumerate(rows):
        for cell in _CELL.finditer(row):
            actions, problems = _read(cell[0])
            for action in actions:
                problems += step.add(rank, action)
            orders[rank] += actions
            if problems:
                place = f"{path}:{rank + 1}:{cell.start() + 1}"
                found += [Diagnostic(place, "", *problem) for problem in problems]
    # What is missing is worth saying only if nothing else is wrong: an unreadable cell would be reported twice.
    if not found:
        found = [Diagnostic(path, "", *problem) for problem in step.missing(num_ranks, orders)]
    if found:
        raise InputError(found)
    return Schedule(step.placement, tuple(map(tuple, orders)))


def _read(cell: str) -> tuple[list[Instruction], list[Problem]]:
    """Return the actions of a cell, two for torch's pairs of F and B, and what is wrong with it."""
    pair = _PAIR.fullmatch(cell) if cell[0] == "(" else None
    matches = [_ACTION.fullmatch(text) for text in (pair[1].split(";") if pair else (cell,))]
    if all(matches):
        return [Instruction(_KINDS[match[2]], int(match[1]), int(match[3])) for match in matches if match], []
    hint = "write e.g. 2F0, 2B0, 2I0, 2W0; sends, receives and the rest are added from the plan"
    return [], [(f"{quote(cell)} is not an F, B, I or W of a stage and a micro-batch", hint)]


KIND = ScheduleKind(
    name="custom",
    build=custom,
    description="read from a file: one row of actions per rank",
    source="format of torch.distributed.pipelining's CSV files",
    splits_backward=True,
    stages_per_rank="any",
)
