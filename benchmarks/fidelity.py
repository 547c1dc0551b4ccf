"""How right the predictions are on this machine: every demo plan and more, several times; writes docs/fidelity.md.

Usage: python benchmarks/fidelity.py [--repeats N] [--rounds N] [--out FILE]

The goals: median |error| <= 5 %, 90th percentile <= 12 %, worst <= 15 % for two ranks, a GPT, a CNN and an MLP under
nine kinds of plan; median <= 12 %, worst <= 25 % for four ranks on two cores. Calibration sees layers and links, never
a plan's own steps; it is taken between the steps, and each round is compared with its own.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

from sections import named_sections

from simulator.launch import Launch
from simulator.planning.validate import Validation, validate
from simulator.results.recording import Recording, write_bytes
from simulator.units import format_seconds

MODELS = ("gpt-tiny", "cnn-tiny", "mlp-tiny")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One table.

    Parameters
    ----------
    ranks
        How many.
    kinds
        Settings -> plans that are run with them; a launch for each.
    median, tail, worst
        Goals for |error|: of the middle, of the 90th percentile, of the worst; None: none.
    """

    ranks: int
    kinds: dict[tuple[str, ...], tuple[str, ...]]
    median: float
    tail: float | None
    worst: float


GROUPS = {
    "two ranks on two cores": Group(
        ranks=2,
        kinds={
            (): ("dp2", "tp2", "pp2"),
            ("plan.sharding=zero2",): ("dp2",),
            ("plan.sharding=fsdp",): ("dp2",),
            ("plan.schedule=gpipe",): ("pp2",),
            ("plan.schedule=zb_h1",): ("pp2",),
            ("plan.recompute=full",): ("dp2", "pp2"),
        },
        median=0.05,
        tail=0.12,
        worst=0.15,
    ),
    "four ranks on two cores": Group(
        ranks=4, kinds={(): ("dp4", "pp4", "dp2-tp2", "dp2-pp2")}, median=0.12, tail=None, worst=0.25
    ),
}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("docs/fidelity.md"))
    arguments = parser.parse_args()
    lines: list[str] = []
    for title, group in GROUPS.items():
        found: dict[str, list[Validation]] = defaultdict(list)
        about: dict[str, str] = {}
        for _, (settings, plans) in product(range(arguments.repeats), group.kinds.items()):
            with tempfile.TemporaryDirectory(prefix="plancast-") as folder:
                launch = Launch(
                    models=MODELS,
                    topology="local-cpu",
                    plans=plans,
                    settings=[f"topology.node.count={group.ranks}", *settings],
                    out=Path(folder),
                    rounds=arguments.rounds,
                    steps=4,
                    timeout=120,
                )
                for result in validate(launch):
                    name = " ".join([result.name, *(setting.partition("=")[2] for setting in settings)])
                    found[name].append(result)
                    print(f"{name:28} {result.comparison.error:+.1%}", flush=True)
                about = dict(Recording.load(next(Path(folder).glob("*/measured.json.gz"))).about)
        lines += section(title, found, group)
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
        "twice two steps, each from the end of the step before, with calibration samples before, between and after. "
        f"The machine's load over the last quarter of an hour was {os.getloadavg()[2]:.1f}, these ranks included.",
        "",
        "Error = (predicted - measured) / measured of the step time: the median over the rounds of a launch, each "
        "round predicted from its own calibration. Calibration sees layers, updates and messages; never the plan's "
        "own steps. Times are medians over the launches.",
    ]


def section(title: str, found: dict[str, list[Validation]], group: Group) -> list[str]:
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
    tail = sizes[round(0.9 * (len(sizes) - 1))]
    goals = [
        f"median |error| {median(sizes):.1%} (goal {group.median:.0%})",
        f"90th percentile {tail:.1%}" + (f" (goal {group.tail:.0%})" if group.tail else ""),
        f"worst {sizes[-1]:.1%} (goal {group.worst:.0%})",
        f"mean signed error {sum(errors) / len(errors):+.1%}",
    ]
    points = [
        100 * abs(bubble.predicted - bubble.measured)
        for results in found.values()
        for bubble in (result.comparison.bubble_fraction for result in results)
    ]
    goals.append(f"bubble off by {median(points):.1f} points in the median (goal 3)")
    return [*lines, "", f"{len(found)} plans of models: {', '.join(goals)}."]


if __name__ == "__main__":
    main()
