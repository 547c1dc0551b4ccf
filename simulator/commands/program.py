"""``plancast program``: look at a compiled plan."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from simulator.commands.options import Model, Plan, Settings, TextFormat, Topology, print_json


def show(
    *,
    model: Model,
    topology: Topology,
    plan: Plan,
    settings: Settings = (),
    rank: Annotated[int | None, Parameter(help="One rank alone, with peers, bytes and FLOPs.")] = None,
    limit: Annotated[int | None, Parameter(help="Only the first instructions.")] = None,
    format: TextFormat = "table",
) -> None:
    """Show the instructions that each rank runs, in the order in which they are issued."""
    from simulator.load import load
    from simulator.reports import program

    inputs = load(model, topology, plan, settings)
    world = inputs.topology.world_size
    if rank is not None and not 0 <= rank < world:
        from simulator.errors import Diagnostic, InputError

        raise InputError([Diagnostic(f"--rank {rank}", "", f"there are {world} ranks", f"write 0 to {world - 1}")])
    if format == "json":
        print_json(program.describe(inputs.program, rank, limit))
        return
    from simulator.reports.terminal import show as show_on_terminal

    show_on_terminal(*program.render(inputs.program, rank, limit))
