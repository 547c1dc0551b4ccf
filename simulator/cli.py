"""The command ``plancast``: its verbs and exit codes, nothing else.

Each verb lives in a module of its own under ``simulator/commands`` that is imported when the verb is called, so that
``--help`` answers at once. Exit codes: 0 ok, 1 does not fit, out of tolerance or failed, 2 wrong input.
"""

from __future__ import annotations

import os
import sys

from cyclopts import App

from simulator import __version__
from simulator.errors import InputError, PlancastError, ProgramError

VERBS = {
    "check": ("simulator.commands.check:check", "Check a plan: legal, free of deadlocks, fits into memory."),
    "simulate": ("simulator.commands.simulate:simulate", "Predict the step time of a plan."),
    "run": ("simulator.commands.run:run", "Train a plan on this machine and record what happened."),
    "compare": ("simulator.commands.compare:compare", "Compare a predicted with a measured step."),
    "validate": ("simulator.commands.validate:validate", "Predict, run and compare plans on this machine."),
    "calibrate": ("simulator.commands.calibrate:calibrate", "Measure the layers and links of this machine."),
    "demo": ("simulator.commands.demo:demo", "The tour: calibrate, predict and measure six plans on two processes."),
    "sweep": ("simulator.commands.sweep:sweep", "Predict every point of a grid over any keys."),
    "collective": ("simulator.commands.collective:collective", "Predict a collective, algorithm by algorithm."),
    "import-run": ("simulator.commands.import_run:import_run", "Make a published run into three input files."),
    "topology show": ("simulator.commands.topology:show", "Show devices, links and routes of a topology."),
    "topology import": ("simulator.commands.topology_import:import_", "Make a topology file of another tool's."),
    "topology export": ("simulator.commands.topology_export:export", "Write a topology for another tool."),
    "netlab up": ("simulator.commands.netlab:up", "Build a topology's hosts and links on this machine."),
    "netlab down": ("simulator.commands.netlab:down", "Remove what netlab up built."),
    "netlab show": ("simulator.commands.netlab:show", "Show hosts, links and processes of the lab that is up."),
    "model import": ("simulator.commands.model_import:import_", "Make a model file of any torch.nn.Module."),
    "models": ("simulator.commands.models:models", "List the model presets with their parameters."),
    "program show": ("simulator.commands.program:show", "Show the instructions that each rank runs."),
    "schedules": ("simulator.commands.schedules:schedules", "Compare all pipeline schedules by bubble and memory."),
    "schema": ("simulator.commands.schema:schema", "Print the JSON Schema of an input file."),
    "version": ("simulator.commands.version:version", "Print the version."),
}
"""Verb, or group and verb -> import path and help."""

GROUPS = {
    "model": "Make models.",
    "topology": "Look at topologies.",
    "netlab": "Have a cluster's network on this machine.",
    "program": "Look at compiled plans.",
}


def build_app() -> App:
    """Return the command line; no verb is imported yet."""
    app = App(
        name="plancast",
        help="Predict how long a training step takes under a parallel plan, and run the same plan with torch.",
        help_epilogue="Exit codes: 0 ok; 1 does not fit, out of tolerance or failed; 2 wrong input.",
        version=__version__,
        result_action="return_value",
    )
    groups = {name: App(name=name, help=text) for name, text in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for verb, (path, text) in VERBS.items():
        parent, _, name = verb.rpartition(" ")
        (groups[parent] if parent else app).command(path, name=name, help=text)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        code = build_app()(arguments)
        sys.stdout.flush()
    except PlancastError as error:
        print(error, file=sys.stderr)
        code = 2 if isinstance(error, InputError | ProgramError) else 1
    except BrokenPipeError:
        # Whoever read our output has seen enough; without this the interpreter complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        # Inputs have errors of their own; this is an output that cannot be written.
        print(f"{error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
