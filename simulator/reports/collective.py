"""The table of collectives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import RenderableType

from simulator.planning.collectives import CollectiveFigures
from simulator.reports.terminal import table
from simulator.units import format_bandwidth, format_bytes, format_seconds


def render(rows: Sequence[CollectiveFigures], operation: str, topology: str, num_ranks: int) -> RenderableType:
    """Return the table: sizes in order, each with its algorithms, the fastest first."""
    title = f"{operation} on {num_ranks} ranks of {topology}"
    shown = table("size", "algorithm", "protocol", "time", "algbw", "busbw", "chosen", title=title)
    for size, group in groupby(rows, key=lambda row: row.size):
        for index, row in enumerate(group):
            shown.add_row(
                format_bytes(size) if index == 0 else "",
                row.algorithm,
                row.protocol,
                format_seconds(row.seconds),
                format_bandwidth(row.algbw),
                format_bandwidth(row.busbw),
                "yes" if row.chosen else "",
            )
    return shown
