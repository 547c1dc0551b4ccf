"""Files that hold timelines: a prediction or a measurement, with the inputs that it came from.

Written atomically, so that a file is whole or absent; gzip when the name ends in ``.gz``.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulator.errors import Diagnostic, InputError
from simulator.results.timeline import Timeline

FORMAT = "plancast-recording-1"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Steps of one plan.

    Parameters
    ----------
    source
        ``predicted`` or ``measured``.
    inputs
        The documents, resolved: enough to run again.
    steps
        One timeline a step; a prediction usually has one, or one for each round of calibration.
    rounds
        Round in which each step was measured or for which it was predicted.
    about
        Versions, machine, date, losses: whatever the interpreter says of itself.
    complete
        False for what a run left that was cut short.
    """

    source: str
    inputs: Mapping[str, Any]
    steps: tuple[Timeline, ...]
    rounds: tuple[int, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True

    @property
    def clock_error(self) -> float:
        """Seconds by which the clocks of two ranks may differ; ranks of one host share theirs."""
        return float(self.about.get("clock_error_s", 0.0))

    def save(self, path: str | Path) -> None:
        """Write the file atomically."""
        body = {
            "format": FORMAT,
            "source": self.source,
            "inputs": self.inputs,
            "about": self.about,
            "complete": self.complete,
            "rounds": self.rounds,
            "steps": [step.to_json() for step in self.steps],
        }
        write_json(path, body)

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read a file that ``save`` wrote.

        Raises
        ------
        InputError
            The file is missing or is something else.
        """
        try:
            body = read_json(path)
            if body.get("format") != FORMAT:
                raise ValueError("is not a recording")
            return cls(
                source=body["source"],
                inputs=body["inputs"],
                steps=tuple(Timeline.from_json(step) for step in body["steps"]),
                rounds=tuple(body["rounds"]),
                about=body["about"],
                complete=body["complete"],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            hint = "plancast simulate -o FILE and plancast run -o DIR write recordings"
            raise InputError([Diagnostic(str(path), "", f"cannot be read as a recording: {message}", hint)]) from None


def write_json(path: str | Path, body: Any) -> None:
    """Write JSON atomically, compressed when the name ends in ``.gz``."""
    path = Path(path)
    text = json.dumps(body, separators=(",", ":")).encode()
    data = gzip.compress(text, compresslevel=5, mtime=0) if path.suffix == ".gz" else text
    write_bytes(path, data)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically: under another name first, then renamed. Its folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: str | Path) -> Any:
    """Read JSON, compressed or not.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not JSON.
    """
    data = Path(path).read_bytes()
    try:
        return json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON at line {error.lineno}, column {error.colno}") from None
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error):
        raise ValueError("it is neither JSON nor compressed JSON") from None
