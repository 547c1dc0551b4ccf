"""``plancast simulate``: predict one training step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from simulator.commands.options import (
    DOES_NOT_FIT,
    CalibrationFile,
    Format,
    Model,
    Plan,
    Settings,
    Topology,
    print_csv,
    print_json,
)


def simulate(
    *,
    model: Model,
    topology: Topology,
    plan: Plan,
    settings: Settings = (),
    calibration: CalibrationFile = None,
    trace: Annotated[Path | None, Parameter(help="Write a trace for Perfetto (OUT.json.gz).")] = None,
    output: Annotated[Path | None, Parameter(alias="-o", help="Write the timeline, for `plancast compare`.")] = None,
    fold: Annotated[
        Literal["on", "off"], Parameter(help="Simulate one of each class of identical ranks, or every rank.")
    ] = "on",
    format: Format = "table",
) -> int:
    """Predict the step time, bubble, exposed communication, MFU and memory of a plan.

    Exit code 0: it fits; 1: it does not fit into memory (the result is printed all the same); 2: the input is wrong.
    """
    from simulator.load import load
    from simulator.planning import load_calibration
    from simulator.planning.predict import predict_with_range

    measured = load_calibration(calibration) if calibration else None
    prediction = predict_with_range(load(model, topology, plan, settings), measured, folding=fold == "on")
    if output:
        prediction.recording().save(output)
    if trace:
        from simulator.reports.trace import write_trace

        write_trace(trace, {"predicted": prediction.timeline})
    if format == "json":
        print_json(prediction.result())
    else:
        from simulator.reports.summary import flat, render
        from simulator.reports.terminal import show

        if format == "csv":
            print_csv([flat(prediction.result())])
        else:
            show(render(prediction))
    return 0 if prediction.fits else DOES_NOT_FIT
