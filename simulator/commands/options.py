"""Options that several verbs share, and how every verb prints."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, validators

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


Models = Annotated[list[str], Parameter(name="--model", negative=(), help="Model file or preset; repeat for several.")]
Plans = Annotated[list[str], Parameter(name="--plan", negative=(), help="Plan file or preset; repeat for several.")]
Output = Annotated[Path | None, Parameter(alias="-o", help="Folder for what is written; runs/DATE-VERB if absent.")]
Steps = Annotated[int, Parameter(help="Recorded steps (of each round).", validator=validators.Number(gte=1))]
Rounds = Annotated[int, Parameter(help="Turns; each measures and calibrates.", validator=validators.Number(gte=1))]
Netlab = Annotated[
    bool,
    Parameter(negative=(), help="Each host in a network namespace, behind links as slow as the topology's (netlab)."),
]
Timeout = Annotated[float, Parameter(help="Seconds that one instruction may take.", validator=validators.Number(gt=0))]
CheckEvery = Annotated[
    int,
    Parameter(
        help="Recorded steps between comparisons of losses and replicas; 0: none.", validator=validators.Number(gte=0)
    ),
]
Resume = Annotated[
    Path | None, Parameter(help="Folder of an earlier run with the same inputs: go on from what it has kept.")
]


def output_folder(verb: str, output: Path | None, resume: Path | None) -> Path:
    """Return where a run writes: into the folder that it resumes, or a new one. Raises InputError for two answers."""
    if output and resume and output != resume:
        from simulator.errors import Diagnostic, InputError

        message = f"goes on in {resume}, and -o names {output}"
        raise InputError([Diagnostic(f"--resume {resume}", "", message, "leave out -o")])
    return resume or output or run_folder(verb)


def run_folder(verb: str) -> Path:
    """Return a new folder for a run: runs/<date and time>-<verb>."""
    return Path("runs") / f"{datetime.now():%Y-%m-%dT%H-%M-%S}-{verb}"


def fraction(option: str, text: str | None) -> float | None:
    """Return the fraction that an option gives as a percentage; raises InputError."""
    from simulator.errors import Diagnostic, InputError
    from simulator.units import parse_fraction

    try:
        return parse_fraction(text) if text is not None else None
    except ValueError as error:
        raise InputError([Diagnostic(f"{option} {text}", "", str(error))]) from None


def check_picture(output: Path | None) -> None:
    """Refuse a picture whose name promises another format than SVG; raises InputError."""
    if output and output.suffix.lower() != ".svg":
        from simulator.errors import Diagnostic, InputError

        hint = f"write {output.with_suffix('.svg').name}; browsers and Inkscape turn it into anything else"
        raise InputError([Diagnostic(f"-o {output}", "", "pictures are SVG", hint)])
