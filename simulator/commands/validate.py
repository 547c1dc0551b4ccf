"""``plancast validate``: predict, run and compare in one go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from simulator.commands.options import (
    OUT_OF_TOLERANCE,
    CalibrationFile,
    CheckEvery,
    Format,
    Models,
    Netlab,
    Output,
    Plans,
    Resume,
    Rounds,
    Settings,
    Steps,
    Timeout,
    Topology,
    print_csv,
    print_json,
)

if TYPE_CHECKING:
    from rich.text import Text

    from simulator.planning.validate import Validation


def validate(
    *,
    model: Models,
    topology: Topology,
    plan: Plans,
    settings: Settings = (),
    calibration: CalibrationFile = None,
    tolerance: Annotated[
        str | None, Parameter(help="Within which the error's whole interval must lie, as 10%.")
    ] = None,
    output: Output = None,
    rounds: Rounds = 6,
    steps: Steps = 4,
    timeout: Timeout = 60.0,
    check_every: CheckEvery = 10,
    resume: Resume = None,
    netlab: Netlab = False,
    dry_run: Annotated[
        bool, Parameter(name="--dry-run", negative=(), help="Run single ranks of a cluster without its devices.")
    ] = False,
    world: Annotated[
        int | None, Parameter(help="Dry run: ranks to scale the plan to.", validator=validators.Number(gte=1))
    ] = None,
    ranks: Annotated[str | None, Parameter(help="Dry run: which ranks, as 0,17; some of each kind if absent.")] = None,
    format: Format = "table",
) -> int:
    """Train every model with every plan on this machine, and compare each with its prediction.

    Layers and links are calibrated between the steps, never the plan's own steps, and each round is compared with
    the prediction from its own calibration: on a machine whose speed drifts only that is fair. Emulated devices are
    predicted from their topology alone. With --calibration
    the table also shows what that file predicted ahead of the run.

    The error is a median over rounds and has a 95 % interval, bootstrapped over the rounds. With --tolerance a plan
    passes only if the whole interval lies within it; more rounds narrow it. Exit code 1 unless all plans pass.

    With --netlab the topology's hosts and links are built on this machine first and removed at the end
    (docs/netlab.md).

    With --dry-run nothing is timed: the executor runs chosen ranks of a plan of any size in one process, on tensors
    without values, and FLOPs, messages, bytes and memory must be exactly those of the plan's program (docs/dry-run.md).
    Exit code 1 when anything differs.
    """
    if dry_run or world is not None or ranks is not None:
        return _dry_run(dry_run, model, topology, plan, settings, world, ranks, format)
    from simulator.commands.options import fraction, output_folder
    from simulator.launch import Launch
    from simulator.planning import load_calibration
    from simulator.planning.validate import validate as validate_plans
    from simulator.reports.comparison import error_of
    from simulator.reports.terminal import note
    from simulator.reports.validation import save
    from simulator.results.verdict import Verdict

    allowed = fraction("--tolerance", tolerance)
    earlier = load_calibration(calibration) if calibration else None
    out = output_folder("validate", output, resume)
    launch = Launch(
        models=model,
        topology=topology,
        plans=plan,
        settings=settings,
        out=out,
        rounds=rounds,
        steps=steps,
        timeout=timeout,
        check_every=check_every,
        resume=resume is not None,
    )
    notes = []
    if netlab:
        from simulator.planning.netlab import validate_in_netlab
        from simulator.reports.netlab import remarks

        in_netlab = validate_in_netlab(launch, earlier)
        results, notes = in_netlab.results, [remarks(in_netlab)]
    else:
        results = validate_plans(launch, earlier)
    if allowed is not None:
        results = [result.judged(allowed) for result in results]
    save(out, results)
    _report(results, out, notes, format)
    unmet = [result for result in results if result.verdict not in (None, Verdict.PASSES)]
    for result in unmet:
        note(f"{result.name} {result.verdict}: error {error_of(result.comparison)}, allowed are {tolerance}")
    return OUT_OF_TOLERANCE if unmet else 0


def _report(results: Sequence[Validation], out: Path, notes: Sequence[Text], format: Format) -> None:
    """Print predictions beside measurements."""
    from simulator.reports.validation import render, rows

    if format == "json":
        print_json([result.to_json() for result in results])
    elif format == "csv":
        print_csv(rows(results))
    else:
        from simulator.reports.terminal import show

        show(*render(results, out), *notes)


def _dry_run(
    asked: bool,
    models: Sequence[str],
    topology: str,
    plans: Sequence[str],
    settings: Sequence[str],
    world: int | None,
    ranks: str | None,
    format: str,
) -> int:
    """Run ranks without devices; return the exit code."""
    from simulator.errors import Diagnostic, InputError
    from simulator.planning.dry_run import DryRun, dry_run
    from simulator.reports.dry_run import render, rows

    words = ranks.split(",") if ranks is not None else []
    if not asked or not all(word.strip().isdecimal() for word in words):
        given = f"--ranks {ranks}" if asked or world is None else f"--world {world}"
        rule = "is a list of whole numbers" if asked else "is for dry runs alone"
        raise InputError([Diagnostic(given, "", rule, "write --ranks 0,17" if asked else "add --dry-run")])
    results = dry_run(
        DryRun(
            models=models,
            plans=plans,
            topology=topology,
            settings=settings,
            world=world,
            ranks=[int(word) for word in words],
        )
    )
    if format == "json":
        print_json(results)
    elif format == "csv":
        print_csv(rows(results))
    else:
        from simulator.reports.terminal import show

        show(*render(results))
    return 0 if all(each["agrees"] for result in results for each in result["ranks"]) else OUT_OF_TOLERANCE
