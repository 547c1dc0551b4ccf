"""A schedule read from text: one row of actions per rank, torch pipelining's CSV of compute actions."""

from __future__ import annotations

import re

from simulator.errors import Diagnostic, InputError, quote
from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules.base import Options, Problem, Schedule, ScheduleKind
from simulator.program.schedules.one_step import Fault, faults

_CELL = re.compile(r"(\d{1,9})([FBIW])(\d{1,9})(?=[,\s]|$)|([^,\s]+)")
"""An action's stage, kind and micro-batch; or any other cell."""

_PAIR = re.compile(r"\(([^()]*)\)OVERLAP_F_B")
Found = tuple[int, int, Problem]
"""Row and column counted from 0, -1 for the file as a whole; and what is wrong there."""

_KINDS = {letter: Kind[letter] for letter in "FBIW"}


def custom(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule that ``options.text`` writes down, after checking that it is one training step that ends.

    Cells are separated by commas or blanks and may be empty. A stage belongs to the rank in whose row it stands.

    Raises
    ------
    InputError
        Cells that are no compute actions; missing, repeated or misplaced actions; ranks that wait for each other.
    """
    rows = options.text.rstrip().splitlines()
    read = [_read(row) for row in rows]
    orders = tuple(tuple(actions) for actions, _ in read)
    found: list[Found] = [(rank, *stranger) for rank, (_, strangers) in enumerate(read) for stranger in strangers]
    placement, problems = _placement(num_ranks, orders)
    schedule = Schedule(placement, orders)
    wrong = [(-1, -1, problem) for problem in problems] or [
        (*_place(rows, fault), (fault.message, fault.hint)) for fault in faults(schedule, num_microbatches)
    ]
    # An unreadable cell may have been the one that is missing: that is not said twice.
    found += [each for each in wrong if each[0] >= 0 or not found]
    if found:
        path = options.path or "text"
        raise InputError(
            Diagnostic(path if rank < 0 else f"{path}:{rank + 1}:{column + 1}", "", *problem)
            for rank, column, problem in sorted(found)
        )
    return schedule


def _read(row: str) -> tuple[list[Instruction], list[tuple[int, Problem]]]:
    """Return the actions of a row, and its other cells with their columns."""
    actions: list[Instruction] = []
    strangers = False
    for stage, kind, microbatch, other in _CELL.findall(row):
        if not other:
            actions.append(Instruction(_KINDS[kind], int(stage), int(microbatch)))
        elif pair := _pair(other):
            actions += pair
        else:
            strangers = True
    hint = "write e.g. 2F0, 2B0, 2I0, 2W0; sends, receives and the rest are added from the plan"
    return actions, [
        (cell.start(), (f"{quote(cell[0])} is not an F, B, I or W of a stage and a micro-batch", hint))
        for cell in (_CELL.finditer(row) if strangers else ())
        if cell[4] and not _pair(cell[4])
    ]


def _pair(cell: str) -> list[Instruction]:
    """Return the actions of torch's pairs of F and B; nothing if it is none."""
    match = _PAIR.fullmatch(cell)
    halves = [_CELL.fullmatch(half) for half in match[1].split(";")] if match else []
    if not all(half and half[2] for half in halves):
        return []
    return [Instruction(_KINDS[half[2]], int(half[1]), int(half[3])) for half in halves if half]


def _placement(num_ranks: int, orders: tuple[tuple[Instruction, ...], ...]) -> tuple[tuple[int, ...], list[Problem]]:
    """Return the rank of each stage, the first in whose row it stands; and what keeps it from being one."""
    if len(orders) != num_ranks:
        return (), [
            (
                f"has {len(orders)} row{'s'[: len(orders) != 1]}, but pp is {num_ranks}",
                "write one row of actions per pipeline rank",
            )
        ]
    if idle := [rank for rank, order in enumerate(orders) if not order]:
        return (), [(f"row {rank + 1} has no actions", f"give rank {rank} a stage") for rank in idle]
    homes = {stage: rank for rank in reversed(range(num_ranks)) for stage in {each.stage for each in orders[rank]}}
    absent = next((stage for stage in range(len(homes)) if stage not in homes), None)
    if absent is not None:
        return (), [(f"stage {absent} is missing", f"stages are numbered from 0; the last is {max(homes)}")]
    return tuple(homes[stage] for stage in range(len(homes))), []


def _place(rows: list[str], fault: Fault) -> tuple[int, int]:
    """Return the row and the column of a fault, counted from 0; -1 for what stands nowhere."""
    if fault.missing:
        return -1, -1
    # A pair is one cell of two actions.
    cells = _CELL.finditer(rows[fault.rank])
    starts = [cell.start() for cell in cells for _ in range(1 if cell[2] else len(_pair(cell[0])))]
    return fault.rank, starts[fault.position]


KIND = ScheduleKind(
    name="custom",
    build=custom,
    description="read from a file: one row of actions per rank",
    source="format of torch.distributed.pipelining's CSV files",
    stages_per_rank="any",
)
