"""How long `plancast simulate` takes, as a whole process, for every preset in models/ on 1,024 and on 16,384 GPUs.

    python benchmarks/presets.py [--only NAME ...] [--check]

One plan cannot suit a model of two layers and one of a hundred: each preset runs with the first of :data:`PLANS` that
is legal for it, the deepest pipeline first, because a prediction costs pipeline depth times micro-batches. A run over
its goal is repeated, and the best counts, because other work on the machine only ever adds time. ``--check`` exits with
1 when a preset misses a goal.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from simulator.errors import InputError
from simulator.load import load

GOALS = {1024: 2.0, 16384: 3.0}
"""Seconds of the whole process, by GPUs."""

GPUS_PER_NODE = 8
REPEATS = 5
MODELS = Path(__file__).parent.parent / "models"
TOPOLOGY, PLAN = "superpod-h100", "gpt3-tp8-pp8"
COMMAND = [sys.executable, "-c", "from simulator.cli import main; main()", "simulate"]
PLANS = [{"tp": tp, "pp": pp, "ep": ep} for pp in (64, 16, 8, 4, 2, 1) for tp in (8, 4, 2, 1) for ep in (64, 8, 1)]
"""Degrees to try, in this order; all 64 micro-batches of the plan file, on stages of equal cost."""


def settings(gpus: int, plan: dict[str, int]) -> list[str]:
    """Return the assignments that make this plan on so many GPUs."""
    degrees = [f"plan.{key}={value}" for key, value in plan.items()]
    return [f"topology.nodes={gpus // GPUS_PER_NODE}", *degrees, "plan.stages=balanced"]


def legal_plan(preset: str) -> dict[str, int]:
    """Return the first plan that compiles for a preset on every number of GPUs."""
    for plan in PLANS:
        try:
            for gpus in GOALS:
                load(preset, TOPOLOGY, PLAN, settings(gpus, plan))
        except InputError:
            continue
        return plan
    raise SystemExit(f"{preset}: none of {len(PLANS)} plans is legal")


def seconds(preset: str, gpus: int, plan: dict[str, int]) -> float:
    """Run the command and return how long it took."""
    files = ["--model", preset, "--topology", TOPOLOGY, "--plan", PLAN]
    changes = [word for setting in settings(gpus, plan) for word in ("--set", setting)]
    began = time.perf_counter()
    done = subprocess.run([*COMMAND, *files, *changes], capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    # A plan that does not fit into memory makes the exit code 1; so does a crash, but that prints no result.
    if not done.stdout:
        raise SystemExit(f"{preset} on {gpus:,} GPUs ended with {done.returncode}: {done.stderr}")
    return took


def best(preset: str, gpus: int, plan: dict[str, int]) -> float:
    """Return the shortest time of as many runs as the goal needs, at most :data:`REPEATS`."""
    shortest = float("inf")
    for _ in range(REPEATS):
        shortest = min(shortest, seconds(preset, gpus, plan))
        if shortest <= GOALS[gpus]:
            break
    return shortest


def main() -> None:
    """Measure and print, the slowest last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="presets to run (default: all)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a preset misses a goal")
    options = parser.parse_args()
    presets = options.only or sorted(path.stem for path in MODELS.glob("*.yaml"))

    print(f"{'seconds on GPUs':<24}" + "".join(f"{gpus:>10,}" for gpus in GOALS))
    slowest, missed = dict.fromkeys(GOALS, (0.0, "")), []
    for preset in presets:
        plan = legal_plan(preset)
        took = {gpus: best(preset, gpus, plan) for gpus in GOALS}
        shown = ", ".join(f"{key} {value}" for key, value in plan.items() if value > 1)
        print(
            f"{preset:<24}" + "".join(f"{time:>10.2f}" for time in took.values()) + f"   {shown}".rstrip(), flush=True
        )
        slowest = {gpus: max(slowest[gpus], (took[gpus], preset)) for gpus in GOALS}
        missed += [f"{preset} on {gpus:,} GPUs" for gpus in GOALS if took[gpus] > GOALS[gpus]]
    for gpus, (longest, preset) in slowest.items():
        print(f"slowest of {len(presets)} on {gpus:,} GPUs: {longest:.2f} s, {preset}; goal {GOALS[gpus]:g} s")
    if missed:
        print("over the goal: " + ", ".join(missed))
    if options.check and missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
