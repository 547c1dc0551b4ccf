"""``plancast sweep``: predict every point of a grid."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter, validators

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


def sweep(
    *,
    model: Model,
    topology: Topology,
    plan: Plan,
    over: Annotated[list[str], Parameter(negative=(), help="A key and its values, as plan.tp=1,2,4; repeatable.")],
    settings: Settings = (),
    calibration: CalibrationFile = None,
    jobs: Annotated[
        int, Parameter(help="Processes that work at the same time.", validator=validators.Number(gte=1))
    ] = 1,
    format: Format = "table",
) -> int:
    """Predict every point of a grid over any keys, the fastest first.

    Illegal points and those that do not fit into memory are listed last, with the reason. Exit code 1 when no point is
    legal and fits.
    """
    from rich.console import Console
    from rich.progress import track

    from simulator.load import apply_settings
    from simulator.planning import load_calibration
    from simulator.planning.sweep import explore, grid, read_documents

    documents = read_documents({"model": model, "topology": topology, "plan": plan})
    apply_settings(documents, settings)
    points = grid(over)
    found = explore(documents, points, load_calibration(calibration) if calibration else None, jobs)
    stderr = Console(stderr=True)
    progress = track(found, "predicting", len(points), console=stderr, transient=True, disable=not stderr.is_terminal)
    ranked = sorted(progress, key=lambda point: point.order)
    if format == "json":
        from simulator.reports.sweep import plain

        print_json(plain(ranked))
    elif format == "csv":
        from simulator.reports.sweep import rows

        print_csv(rows(ranked))
    else:
        from simulator.reports.sweep import render
        from simulator.reports.terminal import show

        show(render(ranked))
    return 0 if any(not point.reason for point in ranked) else DOES_NOT_FIT
