"""``torchrun ... -m executor --model M --topology T --plan P``: trains the plan on this machine and records it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from simulator.errors import InputError, PlancastError
from simulator.load import Inputs, load


def main() -> int:
    """Run one process of a launch; exit 2 for wrong input, 1 for a failed run."""
    arguments = _parser().parse_args()
    try:
        inputs = _jobs(arguments)
        from executor.session import Schedule, Session

        session = Session(inputs, Path(arguments.out), arguments.timeout)
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":
            print(error, file=sys.stderr)
        return 2
    except PlancastError as error:
        print(error, file=sys.stderr)
        return 1
    session.run(
        Schedule(
            rounds=arguments.rounds,
            steps=arguments.steps,
            warmup=arguments.warmup,
            calibrate=arguments.calibrate,
            sweep=arguments.sweep,
        )
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="executor", description=__doc__)
    parser.add_argument("--model", action="append", required=True, help="file or preset; may be repeated")
    parser.add_argument("--plan", action="append", required=True, help="file or preset; may be repeated")
    parser.add_argument("--topology", required=True, help="file or preset")
    parser.add_argument("--set", action="append", default=[], help="change a key: plan.tp=2")
    parser.add_argument("--out", required=True, help="folder for recordings")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each job")
    parser.add_argument("--steps", type=int, default=10, help="recorded steps a turn")
    parser.add_argument("--warmup", type=int, default=3, help="steps before the first turn, not recorded")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that an instruction may take")
    parser.add_argument("--calibrate", action="store_true", help="measure layers and links between the steps")
    parser.add_argument("--sweep", action="store_true", help="calibrate standard message sizes too")
    return parser


def _jobs(arguments: argparse.Namespace) -> dict[str, Inputs]:
    """Return every model with every plan, by name of its folder."""
    jobs = {}
    for model in arguments.model:
        for plan in arguments.plan:
            inputs = load(model, arguments.topology, plan, arguments.set)
            jobs[f"{inputs.graph.name}-{inputs.plan.name}"] = inputs
    return jobs


if __name__ == "__main__":
    sys.exit(main())
