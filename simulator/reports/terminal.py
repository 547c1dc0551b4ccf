"""Output for people: every table stays complete, on a narrow terminal as in a pipe."""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

MAX_COLUMNS = 160
"""Characters of a line in a pipe or a file; longer texts are wrapped."""


def table(*headers: str, title: str = "") -> Table:
    """Return a table whose first column is for words and whose other columns are for numbers; nothing is cut off."""
    result = Table(title=Text(title) if title else None, title_justify="left")
    for index, header in enumerate(headers):
        result.add_column(Text(header), justify="right" if index else "left", overflow="fold")
    return result


def facts(rows: list[tuple[str, str]]) -> Table:
    """Return names and values side by side."""
    result = Table.grid(padding=(0, 2))
    result.add_column(overflow="fold", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in rows:
        result.add_row(Text(name), Text(value))
    return result


def show(*parts: RenderableType) -> None:
    """Print to stdout, as wide as the terminal, and wider where cells would be cut off."""
    terminal = Console(highlight=False)
    wide = terminal.options.update(width=10 * MAX_COLUMNS, max_width=10 * MAX_COLUMNS)
    for part in parts:
        needed = Measurement.get(terminal, wide, part)
        wanted = terminal.width if terminal.is_terminal else min(needed.maximum, MAX_COLUMNS)
        Console(highlight=False, width=max(wanted, needed.minimum)).print(part)


def note(text: str) -> None:
    """Print a warning or a piece of progress to stderr."""
    print(text, file=sys.stderr)
