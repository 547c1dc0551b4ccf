"""``torchrun ... -m executor --model M --topology T --plan P``: trains the plan on this machine and records it."""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from simulator.errors import InputError, PlancastError
from simulator.load import load_jobs

PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""


def main() -> int:
    """Run one process of a launch; exit 2 for wrong input, 1 for a failed run."""
    arguments = _parser().parse_args()
    if "RANK" not in os.environ:
        print("start me with torchrun (see README) or use plancast run", file=sys.stderr)
        return 2
    die_with_parent()
    try:
        inputs = load_jobs(arguments.model, arguments.topology, arguments.plan, arguments.set)
        from executor.schedule import Every, Schedule
        from executor.session import Session

        session = Session(inputs, Path(arguments.out), arguments.timeout)
    except InputError as error:
        if os.environ["RANK"] == "0":
            print(error, file=sys.stderr)
        return 2
    except PlancastError as error:
        print(error, file=sys.stderr)
        return 1
    except Exception as error:  # torch cannot load, or nobody can be reached.
        hint = "; choose another MASTER_PORT" if "EADDRINUSE" in str(error) else ""
        reason = (str(error).splitlines() or [""])[0]
        print(f"rank {os.environ['RANK']}: starting: {type(error).__name__}: {reason}{hint}", file=sys.stderr)
        return 1
    session.run(
        Schedule(
            rounds=arguments.rounds,
            steps=arguments.steps,
            warmup=arguments.warmup,
            calibrate=arguments.calibrate,
            sweep=arguments.sweep,
            every=Every(checkpoint=arguments.checkpoint_every, check=arguments.check_every),
            resume=arguments.resume,
        )
    )
    return 0


def die_with_parent() -> None:
    """Have Linux kill this process when its launcher ends in whatever way; elsewhere the watchdog notices, later."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="executor", description=__doc__)
    parser.add_argument("--model", action="append", required=True, help="file or preset; may be repeated")
    parser.add_argument("--plan", action="append", required=True, help="file or preset; may be repeated")
    parser.add_argument("--topology", required=True, help="file or preset")
    parser.add_argument("--set", action="append", default=[], help="change a key: plan.tp=2")
    parser.add_argument("--out", required=True, help="folder for recordings")
    parser.add_argument("--rounds", type=_whole(1), default=1, help="turns of each job")
    parser.add_argument("--steps", type=_whole(0), default=10, help="recorded steps a turn")
    parser.add_argument("--warmup", type=_whole(0), default=3, help="steps before the first turn, not recorded")
    parser.add_argument("--timeout", type=_seconds, default=60.0, help="seconds that an instruction may take")
    parser.add_argument("--calibrate", action="store_true", help="measure layers and links between the steps")
    parser.add_argument("--sweep", action="store_true", help="calibrate standard message sizes too")
    parser.add_argument("--checkpoint-every", type=_whole(0), default=0, help="steps between checkpoints; 0: none")
    parser.add_argument(
        "--check-every", type=_whole(0), default=10, help="steps between comparisons of replicas; 0: none"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    return parser


def _whole(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers that refuses those below the least."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"must be a whole number, {least} or more, not {text!r}")
        return value

    return parse


def _seconds(text: str) -> float:
    """Return a time-out; refuse what is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be seconds, more than 0, not {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
