"""The table that the product is about: predicted and measured side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from simulator.planning.validate import Validation
from simulator.reports.comparison import error_of, flat
from simulator.reports.terminal import table
from simulator.reports.trace import write_trace
from simulator.results.recording import write_json
from simulator.results.verdict import RULE
from simulator.units import format_percent, format_seconds


def save(out: Path, results: Sequence[Validation]) -> None:
    """Write ``result.json`` and one trace a job, predicted and measured tracks in it."""
    for result in results:
        write_trace(out / result.name / "trace.json.gz", result.timelines)
    write_json(out / "result.json", {"results": [result.to_json() for result in results]})


def rows(results: Sequence[Validation]) -> list[dict[str, Any]]:
    """Return one line of a spreadsheet a job."""
    return [
        {
            "name": r.name,
            "predicted_ahead_s": r.ahead,
            **({"verdict": r.verdict.value} if r.verdict else {}),
            **flat(r.comparison),
        }
        for r in results
    ]


def render(results: Sequence[Validation], out: Path) -> list[RenderableType]:
    """Return the table, and what to read beside it."""
    ahead = any(result.ahead for result in results)
    heads = ["plan", *(["ahead of\nthe run"] if ahead else []), "predicted", "measured\n(p10 to p90)"]
    judged = any(result.verdict for result in results)
    heads += ["error\n(95 % interval)", *(["verdict"] if judged else [])]
    shown = table(*heads, "bubble\npred. / meas.", "exposed comm.\npred. / meas.")
    for result in results:
        comparison = result.comparison
        low, high = comparison.spread
        step, bubble, exposed = comparison.step_time, comparison.bubble_fraction, comparison.exposed_comm_time
        shown.add_row(
            result.name,
            *([format_seconds(result.ahead) if result.ahead else ""] if ahead else []),
            format_seconds(step.predicted),
            f"{format_seconds(step.measured)} ({format_seconds(low)} to {format_seconds(high)})",
            error_of(comparison),
            *([str(result.verdict)] if judged else []),
            f"{format_percent(bubble.predicted)} / {format_percent(bubble.measured)}",
            f"{format_seconds(exposed.predicted)} / {format_seconds(exposed.measured)}",
        )
    return [shown, Text(_remarks(results, out, ahead))]


def _remarks(results: Sequence[Validation], out: Path, ahead: bool) -> str:
    errors = sorted(abs(result.comparison.error) for result in results)
    basis = "layers and links measured between the steps, the plan's own steps unseen"
    if not results[0].calibrated:
        basis = "the topology's numbers; its devices are emulated, so computations wait for the predicted time"
    lines = [
        f"|error|: median {format_percent(median(errors))}, worst {format_percent(errors[-1])}",
        f"predicted: from {basis}; error: median over rounds of (predicted - measured) / measured, its interval "
        "bootstrapped over the rounds",
    ]
    if any(result.verdict for result in results):
        lines.append(f"verdict: {RULE}")
    if ahead:
        lines.append(
            "ahead of the run: from the calibration that was taken first; the difference is the machine's drift"
        )
    return "\n".join(
        [*lines, f"wrote {out}/result.json, and for each plan recordings and trace.json.gz (ui.perfetto.dev)"]
    )
