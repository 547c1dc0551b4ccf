"""``plancast validate``: predict, run and compare in one go."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from simulator.commands.options import (
    OUT_OF_TOLERANCE,
    CalibrationFile,
    Format,
    Models,
    Netlab,
    Output,
    Plans,
    Rounds,
    Settings,
    Steps,
    Timeout,
    Topology,
    print_csv,
    print_json,
)


def validate(
    *,
    model: Models,
    topology: Topology,
    plan: Plans,
    settings: Settings = (),
    calibration: CalibrationFile = None,
    tolerance: Annotated[str | None, Parameter(help="Largest error of a step time that is accepted, as 10%.")] = None,
    output: Output = None,
    rounds: Rounds = 6,
    steps: Steps = 4,
    timeout: Timeout = 60.0,
    netlab: Netlab = False,
    format: Format = "table",
) -> int:
    """Train every model with every plan on this machine, and compare each with its prediction.

    Layers and links are calibrated between the steps, never the plan's own steps, and each round is compared with
    the prediction from its own calibration: on a machine whose speed drifts only that is fair. Emulated devices are
    predicted from their topology alone. With --calibration
    the table also shows what that file predicted ahead of the run. Exit code 1 when an error is above the tolerance.

    With --netlab the topology's hosts and links are built on this machine first, and removed at the end (docs/netlab.md).
    """
    from simulator.commands.options import fraction, run_folder
    from simulator.launch import Launch
    from simulator.planning import load_calibration
    from simulator.planning.validate import validate as validate_plans
    from simulator.reports.validation import render, rows, save

    allowed = fraction("--tolerance", tolerance)
    earlier = load_calibration(calibration) if calibration else None
    out = output or run_folder("validate")
    launch = Launch(
        models=model,
        topology=topology,
        plans=plan,
        settings=settings,
        out=out,
        rounds=rounds,
        steps=steps,
        timeout=timeout,
    )
    notes = []
    if netlab:
        from simulator.planning.netlab import validate_in_netlab
        from simulator.reports.netlab import remarks

        in_netlab = validate_in_netlab(launch, earlier)
        results, notes = in_netlab.results, [remarks(in_netlab)]
    else:
        results = validate_plans(launch, earlier)
    save(out, results)
    if format == "json":
        print_json([result.to_json() for result in results])
    elif format == "csv":
        print_csv(rows(results))
    else:
        from simulator.reports.terminal import show

        show(*render(results, out), *notes)
    worst = max(abs(result.comparison.error) for result in results)
    return OUT_OF_TOLERANCE if allowed is not None and worst > allowed else 0
