"""The table of all schedules."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from simulator.planning.schedules import ScheduleFigures
from simulator.reports.terminal import table
from simulator.units import format_percent


def render(
    rows: Sequence[ScheduleFigures], num_ranks: int, num_microbatches: int, virtual: int | None = None
) -> RenderableType:
    """Return the table, the smallest bubble first; schedules that these numbers rule out come last with the reason.

    ``virtual`` are the stages a rank that were asked for; the caption says which schedules take another number.
    """
    shown = table(
        "schedule",
        "stages a rank",
        "placement",
        "bubble",
        "device window",
        "in flight",
        "messages",
        "what it is",
        title=f"pp {num_ranks}, {num_microbatches} micro-batch{'es' * (num_microbatches != 1)}",
    )
    for row in sorted(rows, key=lambda each: (bool(each.problem), each.bubble_fraction)):
        if row.problem:
            shown.add_row(row.name, str(row.num_stages_per_rank), row.placement, "", "", "", "", row.problem)
            continue
        shown.add_row(
            row.name,
            str(row.num_stages_per_rank),
            row.placement,
            format_percent(row.bubble_fraction),
            format_percent(row.device_window_bubble),
            f"{row.peak_microbatches:g}",
            f"{row.messages:g}",
            row.description,
        )
    shown.columns[-1].justify = "left"
    if virtual is not None:
        shown.caption, shown.caption_justify = Text(_other_numbers(rows, virtual)), "left"
    return shown


def _other_numbers(rows: Sequence[ScheduleFigures], virtual: int) -> str:
    """Return which schedules run another number of stages a rank than was asked for."""
    numbers = sorted({row.num_stages_per_rank for row in rows} - {virtual})
    names = {number: [row.name for row in rows if row.num_stages_per_rank == number] for number in numbers}
    return "; ".join(f"always {number} a rank: {', '.join(named)}" for number, named in names.items())
