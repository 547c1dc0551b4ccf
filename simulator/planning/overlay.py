"""A topology that has taken over what was measured of its devices: what ``plancast calibrate --overlay`` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from simulator.cost.calibration import (
    LAUNCH_OVERHEAD,
    MEMORY_BANDWIDTH,
    OVERLAP_SLOWDOWN,
    Calibration,
    product_rate,
)
from simulator.results.intervals import median_interval
from simulator.topology import Topology
from simulator.units import format_bandwidth, format_flop_rate, format_percent, format_seconds

MOST_OVERLAP = 0.9
"""Largest fraction that a topology takes: what remains must be worth calling overlap."""

SUFFIX = "-calibrated"
"""Of the name of such a topology."""


def overlay(document: Mapping[str, Any], topology: Topology, calibration: Calibration) -> dict[str, Any]:
    """Return the topology file with the figures of its devices measured, everything else as it was.

    A peak stays unless more than it was measured; what kernels reach of it is the efficiency.

    Parameters
    ----------
    document
        The topology file as plain data.
    topology
        What it describes.
    calibration
        Measured on the first of its devices and those alike.
    """
    device = topology.device(0)
    given = document["devices"][device.kind]
    figures = {name: median(values) for name, values in calibration.device.items()}
    bandwidth = max(device.memory_bandwidth, figures[MEMORY_BANDWIDTH])
    rates = {dtype: figures[product_rate(dtype)] for dtype in device.peak if product_rate(dtype) in figures}
    peak = {dtype: max(rate, rates.get(dtype, 0.0)) for dtype, rate in device.peak.items()}
    reached = {**device.efficiency.by_dtype, **{dtype: rate / peak[dtype] for dtype, rate in rates.items()}}
    streams_and_products = _source(calibration, MEMORY_BANDWIDTH, *map(product_rate, rates))
    measured = {
        "memory_bandwidth": format_bandwidth(bandwidth),
        "peak": {dtype: format_flop_rate(rate) for dtype, rate in peak.items()},
        "launch_overhead": format_seconds(figures[LAUNCH_OVERHEAD]),
        "efficiency": {
            **given.get("efficiency", {}),
            "matmul": format_percent(device.efficiency.matmul),
            "dtypes": {dtype: format_percent(fraction) for dtype, fraction in reached.items()},
            "memory": format_percent(figures[MEMORY_BANDWIDTH] / bandwidth),
            "source": f"{streams_and_products} All else: {device.efficiency_source}",
        },
        "source": f"{_source(calibration, LAUNCH_OVERHEAD)} Peaks unless exceeded, and all else: {device.source}",
    }
    if slowdown := _overlap(topology, calibration):
        measured["overlap_slowdown"] = {
            "fraction": format_percent(slowdown),
            "source": _source(calibration, OVERLAP_SLOWDOWN),
        }
    devices = {**document["devices"], device.kind: {**given, **measured}}
    return {**document, "name": f"{topology.name.removesuffix(SUFFIX)}{SUFFIX}", "devices": devices}


def figure_lines(calibration: Calibration) -> list[str]:
    """Return each figure in words: the median of its samples, and the 95 % interval of that."""
    return [_line(name, values) for name, values in calibration.device.items()]


def _line(name: str, values: Sequence[float]) -> str:
    shown, interval = _form(name), median_interval([[value] for value in values])
    between = f" ({shown(interval[0])} to {shown(interval[1])})" if interval else ""
    return f"{name} {shown(median(values))}{between}"


def _source(calibration: Calibration, *names: str) -> str:
    """Return when, where and with what some figures were measured, and how surely."""
    about = calibration.about
    where = ", ".join(about[key] for key in ("date", "device", "machine") if key in about)
    version = f", torch {about['torch']}" if "torch" in about else ""
    figures = "; ".join(_line(name, calibration.device[name]) for name in names)
    samples = len(calibration.device[names[0]])
    return f"Measured by plancast calibrate, {where}{version}: {figures}; medians of {samples} samples, 95 % intervals."


def _overlap(topology: Topology, calibration: Calibration) -> float:
    """Return the slowdown of computing beside a message, 0 unless its interval lies above that.

    Ranks that share a host's cores are slowed by the cores that messages take, which the topology says by itself.
    """
    values = calibration.device.get(OVERLAP_SLOWDOWN, ())
    interval = median_interval([[value] for value in values])
    if topology.hosts[0].cores or interval is None or interval[0] <= 0:
        return 0.0
    return min(MOST_OVERLAP, median(values))


def _form(name: str) -> Callable[[float], str]:
    if name == MEMORY_BANDWIDTH:
        return format_bandwidth
    if name == LAUNCH_OVERHEAD:
        return format_seconds
    return format_percent if name == OVERLAP_SLOWDOWN else format_flop_rate
