"""A measured run for people: step time and how it was spent."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from rich.table import Table

from simulator.reports.terminal import facts
from simulator.results.compare import HIGH, LOW, quantile
from simulator.results.metrics import measure
from simulator.results.recording import Recording
from simulator.results.stragglers import stragglers
from simulator.units import format_bytes, format_percent, format_seconds


def summary(recording: Recording) -> dict[str, Any]:
    """Return plain values: medians over the steps, and the losses."""
    metrics = [measure(step) for step in recording.steps]
    times = [each.step_time for each in metrics]
    losses = recording.about.get("losses") or []
    return {
        "step_time_s": median(times),
        "step_time_p10_s": quantile(times, LOW),
        "step_time_p90_s": quantile(times, HIGH),
        "bubble_fraction": median(each.bubble_fraction for each in metrics),
        "compute_time_s": median(each.compute_time for each in metrics),
        "exposed_comm_time_s": median(each.exposed_comm_time for each in metrics),
        "peak_activation_bytes": metrics[0].peak_activation_bytes,
        "steps": len(times),
        "losses": losses,
    }


def slow_ranks(recording: Recording) -> list[str]:
    """Return a line for each rank that computes much slower than its peers."""
    return [
        f"rank {each.rank} computes {format_seconds(each.seconds)} a step, and its peers (rank "
        f"{', '.join(map(str, each.peers))}), which do the same, {format_seconds(each.typical)}: it is "
        f"{format_percent(each.seconds / each.typical - 1)} slower in the median over {len(recording.steps)} steps"
        for each in stragglers(recording.steps)
    ]


def flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary as one line of a spreadsheet: of the losses the first and the last."""
    row = dict(result)
    losses = row.pop("losses") or [None]
    return row | {"first_loss": losses[0], "last_loss": losses[-1]}


def render(result: Mapping[str, Any]) -> Table:
    """Return name and value pairs."""
    spread = f"{format_seconds(result['step_time_p10_s'])} to {format_seconds(result['step_time_p90_s'])}"
    rows = [
        ("step time", f"{format_seconds(result['step_time_s'])} ({spread}, {result['steps']} steps)"),
        ("compute", format_seconds(result["compute_time_s"])),
        ("exposed comm.", format_seconds(result["exposed_comm_time_s"])),
        ("bubble", format_percent(result["bubble_fraction"])),
    ]
    if result["peak_activation_bytes"] is not None:
        rows.append(("peak activations", f"{format_bytes(result['peak_activation_bytes'])} on the fullest rank"))
    losses = result["losses"]
    if losses and losses[0] is not None:
        rows.append(("loss", f"{losses[0]:.6g} first, {losses[-1]:.6g} last"))
    return facts([*rows, ("recording", str(result["recording"]))])
