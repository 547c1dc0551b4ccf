"""``plancast program``: look at a compiled plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from simulator.commands.options import (
    CalibrationFile,
    Format,
    Model,
    Plan,
    Settings,
    Topology,
    check_picture,
    print_csv,
    print_json,
)

if TYPE_CHECKING:
    from simulator.load import Inputs
    from simulator.program import Program
    from simulator.results.timeline import Timeline


def show(
    *,
    model: Model,
    topology: Topology,
    plan: Plan,
    settings: Settings = (),
    rank: Annotated[int | None, Parameter(help="One rank alone, with peers, bytes and FLOPs.")] = None,
    limit: Annotated[
        int | None, Parameter(help="Only the first instructions.", validator=validators.Number(gte=1))
    ] = None,
    grid: Annotated[bool, Parameter(negative=(), help="Ranks down, time across, as predicted.")] = False,
    recording: Annotated[Path | None, Parameter(help="Draw this recording's median step, not a prediction.")] = None,
    calibration: CalibrationFile = None,
    output: Annotated[Path | None, Parameter(alias="-o", help="Write the grid as a picture (OUT.svg).")] = None,
    format: Format = "table",
) -> None:
    """Show the instructions that each rank runs, in the order in which they are issued, or the grid of a step."""
    from simulator.load import load
    from simulator.reports import program

    check_picture(output)
    inputs = load(model, topology, plan, settings)
    if grid or recording or output:
        unused = {"--rank": rank is not None, "--limit": limit is not None, f"--format {format}": format != "table"}
        for option in (name for name, given in unused.items() if given):
            from simulator.errors import Diagnostic, InputError

            raise InputError([Diagnostic(option, "", "does not go with a grid", "leave it out, or leave out --grid")])
        _show_grid(inputs, recording, calibration, output)
        return
    world = inputs.topology.world_size
    if rank is not None and not 0 <= rank < world:
        from simulator.errors import Diagnostic, InputError

        raise InputError([Diagnostic(f"--rank {rank}", "", f"there are {world} ranks", f"write 0 to {world - 1}")])
    if format == "json":
        print_json(program.describe(inputs.program, rank, limit))
    elif format == "csv":
        print_csv(program.rows(inputs.program, rank, limit))
    else:
        from simulator.reports.terminal import show as show_on_terminal

        show_on_terminal(*program.render(inputs.program, rank, limit))


def _show_grid(inputs: Inputs, recording: Path | None, calibration: Path | None, output: Path | None) -> None:
    """Draw one step on the terminal, and into a file if one is named."""
    from rich.console import Console

    from simulator.planning import load_calibration, predict
    from simulator.reports.grid import draw
    from simulator.reports.grid_picture import svg
    from simulator.results.recording import write_bytes

    if recording:
        timeline = _median_step(inputs.program, recording)
    else:
        timeline = predict(inputs, load_calibration(calibration) if calibration else None).timeline
    console = Console(highlight=False)
    console.print(draw(timeline, max(40, console.width)), soft_wrap=True)
    if output:
        write_bytes(output, svg(timeline).encode())


def _median_step(program: Program, path: Path) -> Timeline:
    """Return the step of median length of a recording of a program; raises InputError if it is of something else."""
    from simulator.errors import Diagnostic, InputError
    from simulator.results.order import misfit
    from simulator.results.recording import Recording

    recorded = Recording.load(path)
    steps = sorted(recorded.steps, key=lambda step: step.step_time)
    if not steps:
        raise InputError([Diagnostic(str(path), "", "holds no step", "the run ended before its first step was done")])
    middle = steps[len(steps) // 2]
    if reason := misfit(program, middle, recorded.complete):
        hint = "name the model, topology, plan and --set that it was made with"
        raise InputError([Diagnostic(str(path), "", reason, hint)])
    return middle
