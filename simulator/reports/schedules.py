"""The table of all schedules."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from simulator.planning.schedules import ScheduleFigures
from simulator.reports.terminal import table
from simulator.units import format_percent


def render(rows: Sequence[ScheduleFigures], num_ranks: int, num_microbatches: int) -> RenderableType:
    """Return the table, the smallest bubble first; schedules that these numbers rule out come last with the reason."""
    shown = table(
        "schedule",
        "stages a rank",
        "placement",
        "bubble",
        "device window",
        "in flight",
        "messages",
        "source",
        title=f"{num_ranks} pipeline ranks, {num_microbatches} micro-batches",
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
            row.source,
        )
    shown.columns[-1].justify = "left"
    return shown
