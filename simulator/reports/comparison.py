"""A comparison for people: the step, what it consists of, and where the error comes from."""

from __future__ import annotations

import math
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from simulator.reports.terminal import table
from simulator.results.compare import Comparison, Pair
from simulator.units import format_bytes, format_percent, format_seconds


def render(comparison: Comparison) -> list[RenderableType]:
    """Return the tables."""
    low, high = comparison.spread
    step = table("step", "predicted", "measured", "error")
    measured = f"{format_seconds(comparison.step_time.measured)} ({format_seconds(low)} to {format_seconds(high)})"
    step.add_row("step time", format_seconds(comparison.step_time.predicted), measured, error_of(comparison))
    for name, times in (("compute", comparison.compute_time), ("exposed communication", comparison.exposed_comm_time)):
        step.add_row(name, *_seconds(times))
    bubble = comparison.bubble_fraction
    difference = f"{format_percent(bubble.predicted - bubble.measured, signed=True).removesuffix(' %')} points"
    step.add_row("bubble fraction", format_percent(bubble.predicted), format_percent(bubble.measured), difference)
    if activations := comparison.peak_activations:
        sizes = format_bytes(activations.predicted), format_bytes(activations.measured)
        step.add_row("peak activations, fullest rank", *sizes, _error(activations.error))
    kinds = table("instructions, all ranks", "predicted", "measured", "error", "of the measured time")
    total = sum(pair.measured for pair in comparison.kinds.values()) or 1.0
    for kind, pair in comparison.kinds.items():
        kinds.add_row(kind.value, *_seconds(pair), format_percent(pair.measured / total))
    return [step, kinds, Text(_remarks(comparison))]


def _seconds(pair: Pair) -> tuple[str, str, str]:
    return format_seconds(pair.predicted), format_seconds(pair.measured), _error(pair.error)


def error_of(comparison: Comparison) -> str:
    """Show the error of the step time, with its interval where there is one."""
    error = _error(comparison.error)
    if comparison.error_interval is None:
        return error
    low, high = (format_percent(end, signed=True).removesuffix(" %") for end in comparison.error_interval)
    return f"{error} ({low} to {high})"


def _error(error: float) -> str:
    return format_percent(error, signed=True) if math.isfinite(error) else "not measured"


def _remarks(comparison: Comparison) -> str:
    rounds, steps = len(comparison.round_errors), comparison.steps
    how = f"{steps} measured step{'s'[: steps != 1]} in {rounds} round{'s'[: rounds != 1]} (10th to 90th percentile)"
    order = "in the order of the plan" if comparison.same_order else "NOT in the order of the plan"
    paired = (
        "\nerror of the step time: the median over the rounds, each compared with its own prediction "
        "(95 % interval, bootstrap over the rounds)"
    )
    wrong = "".join(f"\n  {each}" for each in comparison.disorder)
    return f"{how}; instructions came {order}, on every rank and between ranks{wrong}{paired * (rounds > 1)}"


def flat(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as one line of a spreadsheet."""
    row: dict[str, Any] = {
        "predicted_step_time_s": comparison.step_time.predicted,
        "measured_step_time_s": comparison.step_time.measured,
        "measured_p10_s": comparison.spread[0],
        "measured_p90_s": comparison.spread[1],
        "error": comparison.error,
    }
    if comparison.error_interval:
        row |= dict(zip(("error_low", "error_high"), comparison.error_interval, strict=True))
    pairs = {
        "bubble_fraction": comparison.bubble_fraction,
        "compute_time_s": comparison.compute_time,
        "exposed_comm_time_s": comparison.exposed_comm_time,
        **({"peak_activation_bytes": comparison.peak_activations} if comparison.peak_activations else {}),
        **{f"{kind.value}_s": pair for kind, pair in comparison.kinds.items()},
    }
    for name, pair in pairs.items():
        row |= {f"predicted_{name}": pair.predicted, f"measured_{name}": pair.measured}
    return row | {"same_order": comparison.same_order, "steps": comparison.steps}
