"""Tables of errors: by source, hardware, scheme and framework; ranks of plans; what was skipped and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np

from simulator.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from accuracy import Outcome

GROUPS = ("source", "hardware", "scheme", "framework")
NUMBER_OF_WORST = 10
FEWEST = 3
"""Plans of a contest below which their order says nothing."""


def summary(found: Sequence[Outcome]) -> str:
    """Return everything but the single rows, as Markdown."""
    done = [each for each in found if each.status == "ok"]
    timed = [each for each in done if each.error is not None]
    lines = [f"{len(done)} of {len(found)} rows predicted, {len(found) - len(done)} skipped (reasons below)."]
    lines += ["", *_errors("step time", timed, lambda each: each.error, ("role",))]
    for name in GROUPS:
        lines += ["", *_errors(name, timed, lambda each: each.error, (name,))]
    weighed = [each for each in done if each.memory_error is not None]
    if weighed:
        lines += ["", *_errors("peak memory", weighed, lambda each: each.memory_error, ("source",))]
    if done:
        share = fmean(each.fits for each in done)
        lines += ["", f"All these runs fitted; {share:.1%} of them are predicted to fit."]
    idle = [each for each in done if each.measured_bubble and each.predicted_bubble is not None]
    if idle:
        points = [100 * abs((each.predicted_bubble or 0) - (each.measured_bubble or 0)) for each in idle]
        lines += ["", f"Bubble rates: {len(idle)} rows, median difference {median(points):.1f} points."]
    return "\n".join([*lines, "", *_ranks(timed), "", *_skipped(found)])


def _errors(
    title: str, rows: Iterable[Outcome], error: Callable[[Outcome], float | None], by: tuple[str, ...]
) -> list[str]:
    groups: dict[str, list[float]] = defaultdict(list)
    for each in rows:
        value = error(each)
        if value is not None:
            for name in ("all", *(getattr(each, key) for key in by)):
                groups[name].append(value)
    lines = [f"| {title} | rows | median \\|error\\| | p90 \\|error\\| | bias (mean) |", "|---|---|---|---|---|"]
    for name, values in sorted(groups.items(), key=lambda item: (item[0] != "all", item[0])):
        size = np.abs(values)
        cells = f"{len(values)} | {np.median(size):.1%} | {np.quantile(size, 0.9):.1%} | {fmean(values):+.1%}"
        lines.append(f"| {name} | {cells} |")
    return lines


def _ranks(rows: Iterable[Outcome]) -> list[str]:
    """Return how well plans of one model on one cluster are put in order, source by source."""
    contests: dict[tuple[str, ...], list[Outcome]] = defaultdict(list)
    for each in rows:
        contests[each.contest].append(each)
    by_source: dict[str, list[float]] = defaultdict(list)
    for contest, members in contests.items():
        ours = [(each.predicted_s or 0) / each.samples for each in members]
        # The same plan measured in one release after another is no choice between plans.
        if len(set(ours)) >= FEWEST:
            theirs = [(each.measured_s or 0) / each.samples for each in members]
            by_source[contest[0]].append(spearman(ours, theirs))
    if not by_source:
        return ["No source measured several plans of one model on one cluster."]
    lines = ["| ranking of plans | contests | median Spearman | worst |", "|---|---|---|---|"]
    for source, values in sorted(by_source.items()):
        lines.append(f"| {source} | {len(values)} | {median(values):.2f} | {min(values):.2f} |")
    return [*lines, "", f"Median over sources: {median(median(values) for values in by_source.values()):.2f}."]


def spearman(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the correlation of ranks, ties sharing their mean rank; 0 where one side is all ties."""
    first, second = _rank(ours), _rank(theirs)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _rank(values: Sequence[float]) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def _skipped(found: Iterable[Outcome]) -> list[str]:
    reasons = Counter((each.source, each.reason) for each in found if each.status == "skipped")
    if not reasons:
        return []
    lines = ["| skipped | rows | reason |", "|---|---|---|"]
    for (source, reason), number in sorted(reasons.items(), key=lambda item: (item[0][0], -item[1])):
        lines.append(f"| {source} | {number} | {reason.replace('|', '/')} |")
    return lines


def worst(found: Iterable[Outcome]) -> str:
    """Return the rows whose step times are furthest off."""
    rows = sorted((each for each in found if each.error is not None), key=lambda each: -abs(each.error or 0))
    lines = ["| row | source | scheme | measured | predicted | error |", "|---|---|---|---|---|---|"]
    for each in rows[:NUMBER_OF_WORST]:
        times = f"{format_seconds(each.measured_s or 0)} | {format_seconds(each.predicted_s or 0)}"
        lines.append(f"| {each.id} | {each.source} | {each.scheme} | {times} | {each.error:+.1%} |")
    return "\n".join(lines)


def row_line(each: Outcome) -> str:
    """Return one row as a line."""
    head = f"{each.id:20} {each.source[:26]:26} {each.hardware[:18]:18}"
    if each.status != "ok":
        return f"{head} skipped: {each.reason}"
    line = f"{head} {each.scheme:16} predicted {format_seconds(each.predicted_s or 0):>9}"
    if each.error is not None:
        line += f" measured {format_seconds(each.measured_s or 0):>9} {each.error:+7.1%}"
    if each.memory_error is not None:
        memory = each.predicted_peak_memory_bytes or 0, each.measured_peak_memory_bytes or 0
        line += f"  memory {format_bytes(memory[0]):>9} / {format_bytes(memory[1]):>9} {each.memory_error:+7.1%}"
    if each.measured_bubble is not None and each.predicted_bubble is not None:
        line += f"  bubble {each.predicted_bubble:.1%} / {each.measured_bubble:.1%}"
    return line
