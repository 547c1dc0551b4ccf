"""``plancast schedules``: answers which schedule to use."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter, validators

from simulator.commands.options import Format, print_csv, print_json

Positive = validators.Number(gt=0)
AtLeastOne = validators.Number(gte=1)
Count = validators.Number(gte=1, lte=1024)


def schedules(
    *,
    pp: Annotated[int, Parameter(help="Pipeline ranks.", validator=Count)] = 4,
    microbatches: Annotated[int, Parameter(alias="-m", help="Micro-batches of a step.", validator=Count)] = 8,
    virtual: Annotated[
        int | None, Parameter(alias="-v", help="Stages a rank of schedules that take any number.", validator=Count)
    ] = None,
    activation_limit: Annotated[
        float | None, Parameter(help="Micro-batches that a rank may hold at once, for zb_auto.", validator=AtLeastOne)
    ] = None,
    forward: Annotated[float, Parameter(help="Time of a rank's forward.", validator=Positive)] = 1.0,
    input_grad: Annotated[float, Parameter(help="Time of its input gradients.", validator=Positive)] = 1.0,
    weight_grad: Annotated[float, Parameter(help="Time of its weight gradients.", validator=Positive)] = 1.0,
    format: Format = "table",
) -> None:
    """Compare all pipeline schedules: bubble, micro-batches in flight and messages, computed for these numbers.

    Stages take equal times and messages none; `plancast simulate --set plan.schedule=...` predicts real ones.
    """
    from simulator.planning.schedules import compare_schedules
    from simulator.program.schedules import Times

    times = Times(forward=forward, input_grad=input_grad, weight_grad=weight_grad)
    rows = list(compare_schedules(pp, microbatches, times, virtual, activation_limit))
    if format == "json":
        print_json([row.to_json() for row in rows])
    elif format == "csv":
        print_csv([row.to_json() for row in rows])
    else:
        from simulator.reports.schedules import render
        from simulator.reports.terminal import show

        show(render(rows, pp, microbatches, virtual))
