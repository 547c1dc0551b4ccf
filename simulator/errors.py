"""Every exception that plancast raises on purpose, and how wrong input is reported.

The exception tree::

    PlancastError(Exception)
    ├── InputError            wrong input (CLI exit code 2); carries all diagnostics at once
    ├── ProgramError          ``verify()`` found a broken Program; the message holds the table
    └── ExecutionError        the measured run failed
        └── RankLostError     a rank died, hung or stopped

A plan that does not fit into memory is a result, not an exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = [
    "Diagnostic",
    "ExecutionError",
    "InputError",
    "PlancastError",
    "Problems",
    "ProgramError",
    "RankLostError",
    "one_line",
    "quote",
]

MAX_LINES_SHOWN = 100
"""Diagnostics printed for one error; the rest is counted, so that a hopeless file does not flood the terminal."""

MAX_QUOTED = 40
"""Characters of a value that an error repeats."""

MAX_PLACE = 200
"""Characters of a location or a key that an error repeats."""

_FILE_LINE_COLUMN = re.compile(r"(.*):(\d+):(\d+)", re.DOTALL)


def one_line(text: str, longest: int) -> str:
    """Cut `text` to `longest` characters, and blank whatever would disturb a terminal."""
    short = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return "".join(char if char.isprintable() else " " for char in short)


def quote(given: object) -> str:
    """Write what a user gave, short enough for one line: text in double quotes, the rest as in YAML."""
    match given:
        case str():
            return f'"{one_line(given, MAX_QUOTED)}"'
        case None:
            return "nothing"
        case bool():
            return str(given).lower()
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
    return one_line(str(given), MAX_QUOTED)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong with the input.

    Parameters
    ----------
    location
        Where the user wrote it, ``"plans/x.yaml:7:9"`` or ``"--set plan.tp=4"``; may be empty.
    key
        Dotted key with the document's name first, ``"plan.pp"``; empty when the file as a whole is meant.
    message
        What was given and which rule it breaks, with the rule's arithmetic.
    hint
        One way out.
    """

    location: str
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        parts = [one_line(self.location, MAX_PLACE), one_line(self.key, MAX_PLACE), self.message]
        line = ": ".join(part for part in parts if part)
        return f"{line}; {self.hint}" if self.hint else line


class PlancastError(Exception):
    """Base of every error that plancast raises on purpose."""


class InputError(PlancastError):
    """The input is wrong. ``str()`` gives one line for each diagnostic and their number.

    Parameters
    ----------
    diagnostics
        All that was found, in the order in which to show it.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        count = len(self.diagnostics)
        lines = [str(diagnostic) for diagnostic in self.diagnostics[:MAX_LINES_SHOWN]]
        if count > MAX_LINES_SHOWN:
            lines.append(f"... and {count - MAX_LINES_SHOWN} more")
        return "\n".join([*lines, "1 error" if count == 1 else f"{count} errors"])


class ProgramError(PlancastError):
    """A Program breaks a rule of the instruction set; the message holds the table of all ranks."""


class ExecutionError(PlancastError):
    """The measured run failed."""


class RankLostError(ExecutionError):
    """A rank died, hung or stopped, so the run ended.

    Parameters
    ----------
    message
        What happened, in a sentence.
    rank
        The rank that was lost.
    instruction
        Text form of the instruction that it was running, for example ``"2RECV_F1"``; empty when unknown.
    peer
        The rank that it waited for, if it waited for one.
    """

    def __init__(self, message: str, rank: int, instruction: str = "", peer: int | None = None) -> None:
        # All arguments go to the base class because pickling rebuilds an exception from its args.
        super().__init__(message, rank, instruction, peer)
        self.message = message
        self.rank = rank
        self.instruction = instruction
        self.peer = peer

    def __str__(self) -> str:
        at = f" at {self.instruction}" if self.instruction else ""
        waiting = f", waiting for rank {self.peer}" if self.peer is not None else ""
        return f"rank {self.rank}{at}{waiting}: {self.message}"


def _nowhere(key: str) -> str:
    return ""


class Problems:
    """Collects diagnostics, so that a user sees all errors of the input at once.

    Parameters
    ----------
    locate
        Maps a dotted key with the document's name first (``"topology.node.links.0.bandwidth"``) to the place where
        the user wrote it (``"topologies/lab.yaml:5:16"``).

    Examples
    --------
    >>> problems = Problems(lambda key: "plans/x.yaml:7:9")
    >>> problems.add("plan.pp", "6 does not divide num_hidden_layers = 80 (remainder 2)", "nearest: 5 or 8")
    >>> problems.raise_if_any()
    Traceback (most recent call last):
    ...
    simulator.errors.InputError: plans/x.yaml:7:9: plan.pp: 6 does not divide num_hidden_layers = 80 (remainder 2); nearest: 5 or 8
    1 error
    """  # noqa: E501  (the last line of the example is what a user reads)

    def __init__(self, locate: Callable[[str], str] = _nowhere) -> None:
        self._locate = locate
        # A dict keeps the order of arrival and drops repetitions.
        self._found: dict[Diagnostic, None] = {}

    def add(self, key: str, message: str, hint: str = "") -> None:
        """Note that the value at a dotted key is wrong."""
        self._found[Diagnostic(self._locate(key), key, message, hint)] = None

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """What was found so far, each thing once, sorted by file and line."""
        return tuple(sorted(self._found, key=_reading_order))

    def __len__(self) -> int:
        return len(self._found)

    def raise_if_any(self) -> None:
        """Raise an `InputError` that holds everything found; do nothing when nothing was."""
        if self._found:
            raise InputError(self.diagnostics)


def _reading_order(diagnostic: Diagnostic) -> tuple[bool, str, int, int]:
    """Files first, each from top to bottom; command-line settings and what has no place come last."""
    match = _FILE_LINE_COLUMN.fullmatch(diagnostic.location)
    if match is None:
        return True, diagnostic.location, 0, 0
    return False, match[1], int(match[2]), int(match[3])
