"""Options that several verbs share, and how every verb prints."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

Model = Annotated[str, Parameter(help="Model file, or the name of a preset (gpt-tiny, gpt3-175b, ...).")]
Topology = Annotated[str, Parameter(help="Topology file, or the name of a preset (local-cpu, dgx-a100, ...).")]
Plan = Annotated[str, Parameter(help="Plan file, or the name of a preset (single, dp2, tp2, pp2, ...).")]
Settings = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        negative=(),
        show_default=False,
        help="Change a key, as in plan.tp=4; checked like the files; repeatable.",
    ),
]
CalibrationFile = Annotated[
    Path | None, Parameter(name="--calibration", help="Times measured on this machine by `plancast calibrate`.")
]
Format = Annotated[Literal["table", "json", "csv"], Parameter(name="--format", help="How to print the result.")]
TextFormat = Annotated[Literal["table", "json"], Parameter(name="--format", help="How to print the result.")]

DOES_NOT_FIT = 1
"""Exit code of a plan that is legal and needs more memory than there is."""

OUT_OF_TOLERANCE = 1
"""Exit code of a comparison whose error is larger than allowed."""


def print_json(value: Any) -> None:
    """Print plain values."""
    print(json.dumps(value, indent=2))


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> None:
    """Print a header and one line a row; columns that a row lacks stay empty."""
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
