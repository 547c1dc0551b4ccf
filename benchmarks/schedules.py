"""How right the bubbles are: every pipeline schedule predicted and run, computing and emulated (docs/schedules.md).

Usage: python benchmarks/schedules.py [--topology NAME] [--schedule NAME ...] [--rounds N] [--out FILE]

The goals: the same order of spans; bubbles within 5 percentage points on two ranks that compute, within 3 on four to
sixteen emulated ones, whose steps are right to 3 % in the median. Those that compute need a machine with nothing else
to do. All of it takes more than half an hour.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from sections import write_section

from simulator.launch import Launch
from simulator.planning.validate import Validation, validate
from simulator.program.schedules import SCHEDULES
from simulator.results.compare import Comparison
from simulator.results.recording import Recording
from simulator.units import format_seconds

NAMES = tuple(name for name in SCHEDULES if name != "custom")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One table: a model on a number of ranks.

    Parameters
    ----------
    title
        Of its section.
    topology, ranks, model
        Presets, and how many devices.
    num_microbatches, microbatch_size
        Of every plan.
    settings
        Changes of the model and of every plan.
    goal
        Largest difference of the bubble fraction, predicted - measured.
    step_goal
        Median |error| of the step time; None: no goal.
    schedules
        Which to run.
    """

    title: str
    topology: str = "local-cpu"
    ranks: int = 2
    model: str = "gpt-tiny"
    num_microbatches: int = 8
    microbatch_size: int = 4
    settings: tuple[str, ...] = ()
    goal: float = 0.05
    step_goal: float | None = None
    schedules: tuple[str, ...] = NAMES


DEEP, DEEPER = ("model.num_hidden_layers=16",), ("model.num_hidden_layers=32",)
"""Enough equal blocks for two stages on each of eight ranks, and of sixteen."""

emulated = partial(Case, topology="emulated", settings=DEEP, goal=0.03, step_goal=0.03)

CASES = (
    Case(title="Two ranks that compute, a GPT"),
    Case(title="Two ranks that compute, an MLP", model="mlp-tiny", microbatch_size=128),
    emulated(title="Four emulated ranks", ranks=4),
    emulated(title="Eight emulated ranks", ranks=8, num_microbatches=16),
    emulated(title="Sixteen emulated ranks", ranks=16, num_microbatches=32, settings=DEEPER),
    emulated(
        title="Four emulated ranks that do not wait for each other before the update",
        ranks=4,
        settings=(*DEEP, "plan.optimizer_barrier=false"),
        schedules=("1f1b", "zb_h1", "zb_h2", "interleaved_zero_bubble", "zbv"),
    ),
)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", choices=sorted({case.topology for case in CASES}), help="these cases alone")
    parser.add_argument("--schedule", action="append", choices=NAMES, help="this schedule alone; may be repeated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/schedules.md"))
    arguments = parser.parse_args()
    for topology in dict.fromkeys(case.topology for case in CASES):
        lines: list[str] = []
        about: dict[str, str] = {}
        for case in CASES:
            schedules = [name for name in case.schedules if name in (arguments.schedule or NAMES)]
            if schedules and arguments.topology in (None, topology) and case.topology == topology:
                results, about = run(case, schedules, arguments.rounds)
                lines += section(case, results)
        if lines:
            body = "\n".join([conditions(about, arguments.rounds), *lines])
            print(body)
            write_section(arguments.out, topology, body)


def run(case: Case, schedules: Sequence[str], rounds: int) -> tuple[list[Validation], dict[str, str]]:
    """Validate all schedules of a case in one launch; return also what the run says of its machine."""
    with tempfile.TemporaryDirectory(prefix="plancast-") as name:
        folder = Path(name)
        plans = [write_plan(folder / f"{schedule}.yaml", case, schedule) for schedule in schedules]
        launch = Launch(
            models=[case.model],
            topology=case.topology,
            plans=plans,
            settings=[f"topology.node.count={case.ranks}", *case.settings],
            out=folder,
            rounds=rounds,
            steps=4,
            warmup=1,
            timeout=120,
        )
        results = validate(launch)
        return results, dict(Recording.load(next(folder.glob("*/measured.json.gz"))).about)


def write_plan(path: Path, case: Case, schedule: str) -> str:
    """Write the plan of a schedule, named like it, as JSON, which YAML includes; return its path."""
    plan = {
        "name": schedule,
        "pp": case.ranks,
        "schedule": schedule,
        "microbatch_size": case.microbatch_size,
        "num_microbatches": case.num_microbatches,
    }
    path.write_text(json.dumps(plan), encoding="utf-8")
    return str(path)


def conditions(about: dict[str, str], rounds: int) -> str:
    """Return when, where and how long."""
    return (
        f"{datetime.date.today():%d %B %Y}; {about['device']}, {about['machine']}; torch {about['torch']} with gloo, "
        f"Python {platform.python_version()}. {rounds} rounds of four steps of each schedule, the schedules by turns."
    )


def section(case: Case, results: Sequence[Validation]) -> list[str]:
    """Return the table of one case, and how it stands to its goals."""
    lines = [
        "",
        f"## {case.title}",
        "",
        f"{case.model} {' '.join(f'`--set {setting}`' for setting in case.settings)}".rstrip()
        + f", {case.ranks} stages or twice as many, {case.num_microbatches} micro-batches of {case.microbatch_size}.",
        "",
        "| schedule | step predicted | measured | error | bubble predicted | measured | difference | same order |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = {result.name.removeprefix(f"{case.model}-"): result.comparison for result in results}
    lines += [row(name, comparison) for name, comparison in found.items()]
    sizes = {name: abs(difference(comparison)) for name, comparison in found.items()}
    misses = [name for name, size in sizes.items() if size > case.goal]
    others = [name for name, comparison in found.items() if not comparison.same_order]
    goal = f"|difference|: median {median(sizes.values()) * 100:.2f}, worst {max(sizes.values()) * 100:.2f} points "
    goal += f"(goal {case.goal * 100:.0f}; missed by {', '.join(misses) or 'none'}); "
    goal += f"same order: {len(found) - len(others)} of {len(found)}" + f" (not {', '.join(others)})" * bool(others)
    errors = sorted(abs(comparison.error) for comparison in found.values())
    goal += f"; |error| of the step: median {median(errors):.1%}, worst {errors[-1]:.1%}"
    goal += f" (goal of the median {case.step_goal:.0%})" if case.step_goal else ""
    return [*lines, "", goal]


def row(name: str, comparison: Comparison) -> str:
    """Return a line of a table."""
    step, bubble = comparison.step_time, comparison.bubble_fraction
    cells = [
        name,
        *(format_seconds(seconds) for seconds in (step.predicted, step.measured)),
        f"{comparison.error:+.1%}",
        *(f"{share:.2%}" for share in (bubble.predicted, bubble.measured)),
        f"{difference(comparison) * 100:+.2f}",
        "yes" if comparison.same_order else "no",
    ]
    return f"| {' | '.join(cells)} |"


def difference(comparison: Comparison) -> float:
    """Return by how much the predicted bubble fraction exceeds the measured one."""
    return comparison.bubble_fraction.predicted - comparison.bubble_fraction.measured


if __name__ == "__main__":
    main()
