"""What the project set itself to reach on published runs, beside what it reaches; and beside what others reach."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from accuracy import Outcome

PEERS = Path(__file__).parents[2] / "shared" / "measured" / "peers.csv"
SETS = {
    "Korthikanti 2022 Table 5 and Fig (8 A100 runs)": "Korthikanti 2022",
    "vTrain single-node A100": "vTrain ground truth (single node)",
    "SimuMax B200 release v1.2": "SimuMax B200 release v1.2",
}
"""Sets of rows that others published figures for, and our name of the source."""

Errors = Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Rows, a figure of their errors, and the most that it may be (1)."""

    rows: str
    chosen: Callable[[Outcome], bool]
    figure: str
    most: float
    memory: bool = False


FIGURES: dict[str, Callable[[Errors], float]] = {
    "median |error|": lambda errors: float(np.median(np.abs(errors))),
    "p90 |error|": lambda errors: float(np.quantile(np.abs(errors), 0.9)),
    "|bias|": lambda errors: abs(fmean(errors)),
    "mean |error|": lambda errors: float(np.mean(np.abs(errors))),
}


def _level_a(each: Outcome) -> bool:
    return each.level == "A" and each.hardware.startswith(("A100", "H100")) and not _convolves(each)


def _convolves(each: Outcome) -> bool:
    return each.model.lower().startswith(("resnet", "resnext", "se-resnext", "efficientnet"))


def _of(word: str) -> Callable[[Outcome], bool]:
    return lambda each: word in each.source


GOALS = (
    Goal(rows="A100 and H100, transformers, level A", chosen=_level_a, figure="median |error|", most=0.06),
    Goal(rows="A100 and H100, transformers, level A", chosen=_level_a, figure="p90 |error|", most=0.15),
    Goal(rows="A100 and H100, transformers, level A", chosen=_level_a, figure="|bias|", most=0.02),
    Goal(
        rows="B200 and GB200",
        chosen=lambda each: each.hardware.startswith(("B200", "GB200")),
        figure="median |error|",
        most=0.1,
    ),
    Goal(rows="V100", chosen=lambda each: each.hardware.startswith("V100"), figure="median |error|", most=0.1),
    Goal(
        rows="FSDP",
        chosen=lambda each: "FSDP" in each.framework,
        figure="median |error|",
        most=0.1,
    ),
    Goal(rows="CNN", chosen=_convolves, figure="median |error|", most=0.1),
    Goal(rows="peak memory", chosen=lambda each: True, figure="median |error|", most=0.06, memory=True),
    Goal(rows="Korthikanti 2022", chosen=_of("Korthikanti"), figure="mean |error|", most=0.03),
    Goal(rows="vTrain, one node", chosen=_of("vTrain"), figure="mean |error|", most=0.08),
)


def goals(found: Iterable[Outcome]) -> str:
    """Return every goal with what all its rows reach, and those alone that nothing was fitted to."""
    done = [each for each in found if each.status == "ok"]
    lines = ["| rows | figure | goal | all rows | test rows |", "|---|---|---|---|---|"]
    for goal in GOALS:
        chosen = [each for each in done if goal.chosen(each)]
        cells = [_reached(goal, rows) for rows in (chosen, [each for each in chosen if each.role == "test"])]
        figure = goal.figure.replace("|", "\\|")
        lines.append(f"| {goal.rows} | {figure} | {goal.most:.0%} | {' | '.join(cells)} |")
    tested = [each for each in done if each.role == "test"]
    shares = " | ".join(f"{fmean(each.fits for each in rows):.1%}" if rows else "-" for rows in (done, tested))
    lines.append(f"| all | predicted to fit, as they did | at least 95% | {shares} |")
    return "\n".join(lines)


def _reached(goal: Goal, rows: Iterable[Outcome]) -> str:
    errors = [each.memory_error if goal.memory else each.error for each in rows]
    known = [error for error in errors if error is not None]
    if not known:
        return "no rows"
    value = FIGURES[goal.figure](known)
    return f"{value:.1%} of {len(known)}{'' if value <= goal.most else ' (missed)'}"


def peers(found: Sequence[Outcome]) -> str:
    """Return what other simulators reach on a set of rows, as published or run by others, beside this one."""
    lines = ["| rows | system | figure | theirs | largest | ours | ours, largest | basis |", "|" + "---|" * 8]
    with PEERS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            errors = [each.error for each in found if each.source == SETS.get(row["set"]) and each.error is not None]
            ours = (
                f"{np.mean(np.abs(errors)):.1%} of {len(errors)} | {np.max(np.abs(errors)):.1%}"
                if errors
                else "not here |"
            )
            if "range" in row["metric"] and errors:
                ours = f"{100 * min(errors):+.1f}..{100 * max(errors):+.1f} of {len(errors)} |"
            theirs = f"{row['value_pct']}% of {row['rows']} | {row['max_pct'] and row['max_pct'] + '%'}"
            cells = (row["set"], row["system"], row["metric"], theirs, ours, row["basis"])
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
