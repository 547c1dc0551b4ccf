"""The lists of all pipeline ranks side by side, for messages."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.program.instructions import Instruction

TABLE_ROWS = 8
"""Instructions shown before and after the faulty one."""


def table(lists: Sequence[Sequence[Instruction]], rank: int, position: int) -> str:
    """Return what all pipeline ranks do around ``position``, the cell of ``rank`` marked."""
    first = max(0, position - TABLE_ROWS)
    rows = [["", *(f"rank {index}" for index in range(len(lists)))]]
    for row in range(first, position + TABLE_ROWS + 1):
        cells = [str(instructions[row]) if row < len(instructions) else "" for instructions in lists]
        if row == position:
            cells[rank] += " <-- HERE"
        if any(cells):
            rows.append([str(row), *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
