"""One row of a table of published runs: cells as text, read leniently."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from simulator.errors import Diagnostic, InputError, Problems

NOTHING = ("", "-", "?", "n/a", "na", "nan", "none", "null", "unknown", "not stated")
"""What people write into a cell that they leave empty."""

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published run.

    Parameters
    ----------
    path, line
        Where it stands.
    cells
        Column -> text as written; columns that a table lacks are empty cells.
    """

    path: str
    line: int
    cells: Mapping[str, str]

    @cached_property
    def problems(self) -> Problems:
        """What cannot be understood or expressed; each stands on the row's line."""
        return Problems(partial(_place, f"{self.path}:{self.line}"))

    @property
    def id(self) -> str:
        """The row's name."""
        return self.cells.get("id", "").strip() or f"row-{self.line}"

    def text(self, column: str) -> str:
        """Return a cell without blanks around it; empty where nothing is stated."""
        found = (self.cells.get(column) or "").strip()
        return "" if found.lower() in NOTHING else found

    def words(self, *columns: str) -> str:
        """Return some cells as one text in small letters, to look for words in."""
        return " ; ".join(self.cells.get(column) or "" for column in columns).lower()

    def number(self, column: str) -> float | None:
        """Return the number that a cell begins with, None where nothing is stated; what is no number is a problem."""
        text = self.text(column)
        if not text:
            return None
        match = _NUMBER.match(text)
        if match is None:
            self.problems.add(column, f'"{text}" is not a number')
            return None
        return float(match[0].replace(",", ""))

    def count(self, column: str) -> int | None:
        """Return a whole number of at least one, None where nothing is stated."""
        value = self.number(column)
        if value is None:
            return None
        if value < 1 or value != int(value):
            self.problems.add(column, f"{value:g} is not a whole number of at least 1")
            return None
        return int(value)

    def required(self, column: str) -> int | None:
        """Return a whole number; that it is not stated is a problem."""
        if not self.text(column):
            self.problems.add(column, "is not stated")
        return self.count(column)


def read_rows(path: str | Path) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header.

    Raises
    ------
    InputError
        The file cannot be read or has no header.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not reader.fieldnames or "hardware" not in reader.fieldnames:
                message = "has no column hardware, so it is not a table of runs"
                raise InputError([Diagnostic(str(path), "", message, "its first line names the columns")])
            for cells in reader:
                known = {key: value for key, value in cells.items() if isinstance(key, str) and isinstance(value, str)}
                yield Row(path=str(path), line=reader.line_num, cells=known)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError([Diagnostic(str(path), "", f"cannot be read: {reason.lower()}")]) from None


def _place(place: str, key: str) -> str:
    """Return where a cell stands: on the line of its row."""
    return place
