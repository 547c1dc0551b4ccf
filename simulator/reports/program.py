"""The instructions of a compiled plan as text: all pipeline ranks side by side, or one rank in detail."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from simulator.program.instructions import Instruction, Kind, Stream
from simulator.program.program import Program
from simulator.reports.terminal import table
from simulator.units import format_bytes

MAX_RANKS_NAMED = 8
"""Ranks named above a column; the rest is dots."""


def render(program: Program, rank: int | None, limit: int | None) -> list[RenderableType]:
    """Return the tables for the terminal.

    Parameters
    ----------
    program
        What to show.
    rank
        One rank alone; None shows one column for each pipeline rank, because its ranks all run one list.
    limit
        Number of instructions to show; None shows all.
    """
    parts = [_overview(program, limit) if rank is None else _detail(program, rank, limit)]
    length = max(map(len, program.lists)) if rank is None else len(program.instructions(rank))
    if limit is not None and limit < length:
        parts.append(Text(f"{length - limit} more"))
    return parts


def _overview(program: Program, limit: int | None) -> RenderableType:
    found = table("", *(f"pipeline rank {place}\n{_ranks(program, place)}" for place in range(len(program.lists))))
    for row in range(max(map(len, program.lists)))[:limit]:
        found.add_row(str(row), *(str(cells[row]) if row < len(cells) else "" for cells in program.lists))
    for column in found.columns[1:]:
        column.justify = "left"
    return found


def _ranks(program: Program, place: int) -> str:
    mesh = program.plan.mesh
    ranks = [rank for rank in range(mesh.world_size) if mesh.coordinate(rank, "pp") == place]
    more = f", ... ({len(ranks)})" if len(ranks) > MAX_RANKS_NAMED else ""
    return f"rank{'s'[: len(ranks) != 1]} {', '.join(map(str, ranks[:MAX_RANKS_NAMED]))}{more}"


def _detail(program: Program, rank: int, limit: int | None) -> RenderableType:
    found = table("", "instruction", "stream", "operation", "with ranks", "bytes", "layers")
    for column in found.columns:
        column.justify = "left"
    for row, instruction in enumerate(program.instructions(rank)[:limit]):
        values = _values(program, rank, instruction)
        size = format_bytes(values["bytes"]) if "bytes" in values else ""
        ranks = ", ".join(map(str, values.get("ranks", ())))
        cells = (str(row), values["instruction"], values["stream"], values.get("operation", ""), ranks, size)
        found.add_row(*map(Text, cells), Text(", ".join(values.get("layers", ()))))
    return found


def _values(program: Program, rank: int, instruction: Instruction) -> dict[str, Any]:
    values: dict[str, Any] = {"instruction": str(instruction), "stream": instruction.stream.value}
    if instruction.stream is not Stream.COMPUTE:
        message = program.message(instruction)
        ranks = list(program.peers(rank, instruction))
        return values | {"operation": message.operation, "ranks": ranks, "bytes": message.size}
    stage = program.stages[instruction.stage]
    if instruction.kind is Kind.RESHARD:
        return values | {"layers": list(stage.buckets[instruction.part].nodes)}
    nodes = program.segment(instruction).nodes if instruction.part >= 0 else stage.nodes
    return values | {"layers": [node.name for node in nodes]}


def describe(program: Program, rank: int | None, limit: int | None) -> dict[str, Any]:
    """Return plain values: the text forms by pipeline rank, or all that is known of one rank's instructions."""
    if rank is not None:
        instructions = program.instructions(rank)[:limit]
        return {"rank": rank, "instructions": [_values(program, rank, each) for each in instructions]}
    return {"pipeline_ranks": [list(map(str, instructions[:limit])) for instructions in program.lists]}


def rows(program: Program, rank: int | None, limit: int | None) -> list[dict[str, Any]]:
    """Return one line of a spreadsheet an instruction: of each pipeline rank, or in detail of one rank."""
    if rank is None:
        return [
            {"pipeline_rank": place, "index": index, "instruction": str(each), "stream": each.stream.value}
            for place, instructions in enumerate(program.lists)
            for index, each in enumerate(instructions[:limit])
        ]
    found = []
    for index, instruction in enumerate(program.instructions(rank)[:limit]):
        values = _values(program, rank, instruction)
        found.append(
            {
                "rank": rank,
                "index": index,
                "instruction": values["instruction"],
                "stream": values["stream"],
                "operation": values.get("operation", ""),
                "ranks": " ".join(map(str, values.get("ranks", ()))),
                "bytes": values.get("bytes", ""),
                "layers": " ".join(values.get("layers", ())),
            }
        )
    return found
