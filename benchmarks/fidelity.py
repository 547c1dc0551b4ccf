"""How right the predictions are on this machine: every demo plan and more, several times; writes docs/fidelity.md.

Usage: python benchmarks/fidelity.py [--repeats N] [--rounds N] [--out FILE]

The goal: median |error| <= 5 %, worst <= 15 % for dp2, tp2, pp2 of a GPT, a CNN and an MLP; worst <= 25 % for four
ranks on two cores. Calibration sees layers and links, never a plan's own steps; it is taken between the steps, and each
round is compared with its own.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from sections import named_sections

from simulator.launch import Launch
from simulator.planning.validate import Validation, validate
from simulator.results.recording import Recording, write_bytes
from simulator.units import format_seconds

MODELS = ("gpt-tiny", "cnn-tiny", "mlp-tiny")
GROUPS = {
    "two ranks on two cores": (2, ("dp2", "tp2", "pp2"), 0.05, 0.15),
    "four ranks on two cores": (4, ("dp4", "pp4", "dp2-tp2", "dp2-pp2"), None, 0.25),
}
"""Title -> ranks, plans, goal for the median |error|, goal for the worst."""


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("docs/fidelity.md"))
    arguments = parser.parse_args()
    lines: list[str] = []
    for title, (ranks, plans, typical, limit) in GROUPS.items():
        found: dict[str, list[Validation]] = defaultdict(list)
        about: dict[str, str] = {}
        for _ in range(arguments.repeats):
            with tempfile.TemporaryDirectory(prefix="plancast-") as folder:
                launch = Launch(
                    models=MODELS,
                    topology="local-cpu",
                    plans=plans,
                    settings=[f"topology.node.count={ranks}"],
                    out=Path(folder),
                    rounds=arguments.rounds,
                    steps=4,
                    timeout=120,
                )
                for result in validate(launch):
                    found[result.name].append(result)
                    print(f"{result.name:20} {result.comparison.error:+.1%}", flush=True)
                about = dict(Recording.load(next(Path(folder).glob("*/measured.json.gz"))).about)
        lines += section(title, found, typical, limit)
    text = "\n".join([*header(about, arguments.repeats, arguments.rounds), *lines, ""])
    print(text)
    # Other benchmarks' sections of the page stay.
    others = named_sections(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    write_bytes(arguments.out, "\n".join([text, *others.values()]).encode())


def header(about: dict[str, str], repeats: int, rounds: int) -> list[str]:
    """Return the head of the page: when, where, how."""
    return [
        "# Predicted against measured on a CPU machine",
        "",
        "Written by `python benchmarks/fidelity.py`; do not edit. Sections between comments are other benchmarks'.",
        "",
        f"{datetime.date.today():%d %B %Y}; {about['device']}, {about['machine']}; torch {about['torch']} with gloo, "
        f"Python {platform.python_version()}. {repeats} launches of {rounds} rounds; a round of a plan is "
        "twice two steps, each from the end of the step before, with calibration samples before, between and after.",
        "",
        "Error = (predicted - measured) / measured of the step time: the median over the rounds of a launch, each "
        "round predicted from its own calibration. Calibration sees layers, updates and messages; never the plan's "
        "own steps. Times are medians over the launches.",
    ]


def section(title: str, found: dict[str, list[Validation]], typical: float | None, limit: float) -> list[str]:
    """Return the table of one group, and how it stands to its goals."""
    lines = [
        "",
        f"## {title.capitalize()}",
        "",
        "| model and plan | predicted | measured | error of each launch | bubble pred. / meas. "
        "| exposed comm. pred. / meas. |",
        "|---|---|---|---|---|---|",
    ]
    errors = []
    for name, results in found.items():
        errors += [result.comparison.error for result in results]

        def middle(quantity: str, side: str, results: list[Validation] = results) -> float:
            return median(getattr(getattr(result.comparison, quantity), side) for result in results)

        cells = [
            name,
            *(format_seconds(middle("step_time", side)) for side in ("predicted", "measured")),
            ", ".join(f"{result.comparison.error:+.1%}" for result in results),
            " / ".join(f"{middle('bubble_fraction', side):.1%}" for side in ("predicted", "measured")),
            " / ".join(format_seconds(middle("exposed_comm_time", side)) for side in ("predicted", "measured")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    sizes = sorted(map(abs, errors))
    goal = f"median |error| {median(sizes):.1%}" + (f" (goal {typical:.0%})" if typical else "")
    goal += f", worst {sizes[-1]:.1%} (goal {limit:.0%}), mean signed error {sum(errors) / len(errors):+.1%}"
    return [*lines, "", goal]


if __name__ == "__main__":
    main()
