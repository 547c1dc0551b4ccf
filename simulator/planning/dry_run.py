"""A plan at the size of a cluster that nobody here has: its executor runs without tensors' values, in one process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.errors import Diagnostic, ExecutionError, InputError
from simulator.launch import check_trains
from simulator.load import load_jobs
from simulator.planning.world import scaled
from simulator.results.recording import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What to run.

    Parameters
    ----------
    models, plans
        Files or presets; every model with every plan.
    topology
        File or preset.
    settings
        ``--set`` changes.
    world
        Ranks that each plan is scaled to; None for the topology's.
    ranks
        Global ranks that are run; empty for representatives of all.
    """

    models: Sequence[str]
    plans: Sequence[str]
    topology: str
    settings: Sequence[str] = ()
    world: int | None = None
    ranks: Sequence[int] = ()


def dry_run(what: DryRun) -> list[dict[str, Any]]:
    """Return for each job and rank what the executor does beside what its Program says, as plain values.

    Raises
    ------
    InputError
        Something is wrong with the input; nothing has run.
    ExecutionError
        torch is missing, or the executor cannot run the plan.
    """
    if importlib.util.find_spec("torch") is None:
        raise ExecutionError("a dry run needs torch: pip install 'plancast[executor]'")
    commands = [list(_command(what, plan)) for plan in what.plans]
    return [result for command in commands for result in _run(command)]


def _command(what: DryRun, plan: str) -> Sequence[str]:
    """Return the options of one plan with all models, once all is checked that can be without torch."""
    settings = list(what.settings)
    if what.world is not None:
        settings += scaled(what.world, what.models[0], what.topology, plan, settings)
    jobs = load_jobs(what.models, what.topology, [plan], settings)
    check_trains(jobs)
    for name, inputs in jobs.items():
        world = inputs.plan.mesh.world_size
        if wrong := [rank for rank in what.ranks if not 0 <= rank < world]:
            message = f"{name} has the ranks 0 to {world - 1}"
            raise InputError([Diagnostic(f"--ranks {','.join(map(str, wrong))}", "", message)])
    options = {
        "--model": what.models,
        "--plan": [plan],
        "--topology": [what.topology],
        "--set": settings,
        "--rank": [str(rank) for rank in what.ranks],
    }
    return [word for option, values in options.items() for value in values for word in (option, value)]


def _run(options: Sequence[str]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        command = [sys.executable, "-m", "executor.dry_run", *options, "--out", str(out)]
        environment = os.environ | {"TORCH_CPP_LOG_LEVEL": "ERROR"}
        done = subprocess.run(
            command, env=environment, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode or not out.exists():
            raise ExecutionError(done.stderr.strip() or f"the dry run ended with code {done.returncode}")
        results: list[dict[str, Any]] = read_json(out)["results"]
        return results
