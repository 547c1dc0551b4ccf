"""``plancast compare``: how far a prediction is from a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from simulator.commands.options import OUT_OF_TOLERANCE, Format, fraction, print_csv, print_json


def compare(
    predicted: Path,
    measured: Path,
    /,
    *,
    tolerance: Annotated[str | None, Parameter(help="Largest error of the step time that is accepted, as 10%.")] = None,
    format: Format = "table",
) -> int:
    """Show the signed error of the step time and of each kind of instruction.

    Exit code 1 when the step time's error is larger than the tolerance, either way.

    Parameters
    ----------
    predicted
        Recording that `plancast simulate -o` wrote.
    measured
        Recording that `plancast run -o` wrote.
    """
    from simulator.errors import Diagnostic, InputError
    from simulator.load import reload
    from simulator.results.compare import compare as compare_recordings
    from simulator.results.recording import Recording
    from simulator.units import format_percent

    allowed = fraction("--tolerance", tolerance)
    recordings = [Recording.load(path) for path in (predicted, measured)]
    for path, recording in zip((predicted, measured), recordings, strict=True):
        if not recording.steps:
            raise InputError(
                [Diagnostic(str(path), "", "holds no step", "the run ended before its first step was done")]
            )
    ours, theirs = recordings
    comparison = compare_recordings(ours, theirs, reload(theirs.inputs, measured).program)
    if format == "json":
        print_json(comparison.to_json())
    elif format == "csv":
        from simulator.reports.comparison import flat

        print_csv([flat(comparison)])
    else:
        from simulator.reports.comparison import render
        from simulator.reports.terminal import show

        show(*render(comparison))
    from simulator.reports.terminal import note

    for path, recording in zip((predicted, measured), recordings, strict=True):
        if not recording.complete:
            note(f"warning: {path} is of a run that was cut short")
    if not comparison.same_inputs:
        note("warning: the two recordings were made from different inputs")
        if allowed is not None and any(ours.inputs.get(name) != theirs.inputs.get(name) for name in ("model", "plan")):
            note("out of tolerance: a prediction of one model and plan says nothing of another")
            return OUT_OF_TOLERANCE
    if allowed is None or abs(comparison.error) <= allowed:
        return 0
    note(f"out of tolerance: {format_percent(comparison.error, signed=True)}, allowed are {format_percent(allowed)}")
    return OUT_OF_TOLERANCE
