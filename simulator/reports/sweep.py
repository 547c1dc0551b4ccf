"""A sweep for people and for spreadsheets: one row a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from simulator.planning.sweep import Point
from simulator.reports.summary import flat
from simulator.reports.terminal import table
from simulator.units import format_bytes, format_count, format_percent, format_seconds


def render(points: Sequence[Point]) -> RenderableType:
    """Return the table of points, in the order given."""
    keys = list(points[0].settings)
    found = table(*keys, "ranks", "step time", "samples/s", "MFU", "bubble", "exposed comm", "memory")
    found.add_column("why not", overflow="fold")
    for point in points:
        found.add_row(*point.settings.values(), *_cells(point.result), Text(point.reason))
    return found


def _cells(result: dict[str, Any]) -> list[str]:
    if not result:
        return [""] * 7
    return [
        str(result["world_size"]),
        format_seconds(result["step_time_s"]),
        format_count(result["samples_per_second"]),
        format_percent(result["mfu"]),
        format_percent(result["bubble_fraction"]),
        format_percent(result["exposed_comm_time_s"] / (result["step_time_s"] or 1.0)),
        format_bytes(result["peak_memory_bytes"]),
    ]


def rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return the points as lines of a spreadsheet."""
    return [point.settings | flat(point.result) | {"reason": point.reason} for point in points]


def plain(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return the points as plain values for JSON."""
    return [{"settings": point.settings, "result": point.result or None, "reason": point.reason} for point in points]
