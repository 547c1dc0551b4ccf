"""``plancast run``: train a plan on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from simulator.commands.options import (
    CheckEvery,
    Format,
    Model,
    Netlab,
    Output,
    Plan,
    Resume,
    Settings,
    Steps,
    Timeout,
    Topology,
    print_csv,
    print_json,
)


def run(
    *,
    model: Model,
    topology: Topology,
    plan: Plan,
    settings: Settings = (),
    output: Output = None,
    steps: Steps = 10,
    warmup: Annotated[
        int, Parameter(help="Steps before those that are recorded.", validator=validators.Number(gte=0))
    ] = 3,
    timeout: Timeout = 60.0,
    checkpoint_every: Annotated[
        int,
        Parameter(help="Steps between checkpoints, to --resume from; 0: none.", validator=validators.Number(gte=0)),
    ] = 0,
    check_every: CheckEvery = 10,
    resume: Resume = None,
    netlab: Netlab = False,
    trace: Annotated[Path | None, Parameter(help="Write a trace of the median step for Perfetto.")] = None,
    format: Format = "table",
) -> int:
    """Train a plan for some steps and record the timeline of each.

    Starts ``torchrun -m executor`` with one process a device of the topology. Writes ``measured.json.gz`` for `plancast
    compare`. On several machines start torchrun yourself, with the same options after ``-m executor``. With --netlab
    the ranks run in the lab that ``plancast netlab up`` built of the same topology.
    """
    from simulator.commands.options import output_folder
    from simulator.launch import Launch
    from simulator.launch import run as launch_run
    from simulator.planning.fit import require_fit

    out = output_folder("run", output, resume)
    launch = Launch(
        models=[model],
        topology=topology,
        plans=[plan],
        settings=settings,
        out=out,
        steps=steps,
        warmup=warmup,
        timeout=timeout,
        checkpoint_every=checkpoint_every,
        check_every=check_every,
        resume=resume is not None,
    )
    jobs = launch.jobs()
    require_fit(jobs)
    if netlab:
        from simulator.netlab.build import require

        launch = replace(launch, lab=require(next(iter(jobs.values())).topology).name)
    (name,) = launch_run(launch)
    _report(out / name / "measured.json.gz", trace, format)
    return 0


def _report(path: Path, trace: Path | None, format: Format) -> None:
    """Print what a recording says, and write the trace of its median step."""
    from simulator.reports.measured import render, slow_ranks, summary
    from simulator.reports.terminal import note
    from simulator.results.recording import Recording

    recording = Recording.load(path)
    if trace:
        from simulator.reports.trace import write_trace

        middle = sorted(recording.steps, key=lambda step: step.step_time)[len(recording.steps) // 2]
        write_trace(trace, {"measured": middle})
    for line in slow_ranks(recording):
        note(f"note: {line}")
    result = {"recording": str(path), **summary(recording)}
    if format == "json":
        print_json(result)
    elif format == "csv":
        from simulator.reports.measured import flat

        print_csv([flat(result)])
    else:
        from simulator.reports.terminal import show

        show(render(result))
