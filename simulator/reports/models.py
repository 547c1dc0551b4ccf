"""The table of all model presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from simulator.reports.terminal import table


def render(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the table; a sequence length only where samples are sequences."""
    shown = table("preset", "family", "parameters", "sequence", title=f"{len(rows)} models")
    for row in rows:
        shown.add_row(row["name"], row["family"], f"{row['parameters']:,}", str(row["sequence_length"] or ""))
    shown.columns[1].justify = "left"
    return shown
