"""The fit of a device's constants: Levenberg and Marquardt on the logarithm of each, errors beyond 5 % count linearly.

The model is the product's own ``kernel_seconds``. Every constant has a prior, worth about one row that is 3 % off: it
decides where nothing was measured, as for the shape of products of a device with eight rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from device_rows import ENGINE, Row
from numpy.typing import NDArray

from simulator.cost.kernels import kernel_seconds
from simulator.plan.plan import NARROW
from simulator.topology import AttentionEfficiency, Device, Efficiency

Vector = NDArray[np.float64]
Constants = Mapping[str, float]

KNEE = 0.05
"""Error (log) up to which squares count: the fit then follows the median, not single outliers."""

PRIOR, FIRM = 1e-3, 1.0
"""Weight of the square of log(constant / prior); the latter for the launch, which products can hardly tell from the
losses of small shapes, while it is most of what a small memory-bound kernel takes."""

FULL = 1e11
"""FLOPs from which a row counts fully; smaller ones by the root of their share. A layer's products are above it."""

SECOND = 0.2
"""Weight of the inference engine's rows where others were measured too: those are nearer to training."""

ROUNDS = 60

STARTS: Constants = {
    "launch": 5e-6,
    "matmul": 0.75,
    "fp8": 0.7,
    "fp4": 0.5,
    "fp32": 0.75,
    "edge": 64.0,  # Half a tile of 128.
    "depth": 128.0,
    "cast": 6.0,
    "engine": 1.1,
    "narrow engine": 1.1,
    "forward": 0.55,
    "ratio": 0.7,  # Of backward to forward: 0.68 and 0.72 where both were measured in training (docs/devices.md).
    "attention edge": 1000.0,
    "rows": 16000.0,
    "attention engine": 1.0,
}
"""Constants, their priors, where the fit begins. ``engine``: how much faster the inference engine's rows are; of fp8
and fp4, ``narrow engine``, where others measured fp8 beside 16 bits."""

SIXTEEN_BITS = ("bf16", "fp16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Constants of a device, and how much faster than in training an inference engine was seen to be."""

    device: Device
    engine: float
    narrow_engine: float
    attention_engine: float

    def seconds(self, row: Row) -> float:
        """Return the predicted seconds of a row, of the inference engine's by its own factor."""
        device = self.device if row.cast else _castless(self.device)
        seconds = sum(kernel_seconds(kernel, device, row.dtype, row.itemsize) for kernel in row.kernels)
        if row.source != ENGINE:
            return seconds
        products = self.narrow_engine if row.dtype in NARROW else self.engine
        return seconds / (self.attention_engine if row.family == "attention" else products)

    def error(self, row: Row) -> float:
        """Return log(predicted / measured)."""
        return float(np.log(self.seconds(row) / row.seconds))


def _castless(device: Device) -> Device:
    return replace(device, efficiency=replace(device.efficiency, cast=0.0))


def free_constants(rows: Sequence[Row]) -> list[str]:
    """Return the constants that rows say something about."""
    products = [row for row in rows if row.family == "product"]
    attention = [row for row in rows if row.family == "attention"]
    names = ["launch", "edge", "depth"]
    names += ["matmul"] * any(row.dtype in SIXTEEN_BITS for row in products)
    names += [dtype for dtype in ("fp8", "fp4", "fp32") if any(row.dtype == dtype for row in products)]
    names += ["cast"] * any(row.cast and row.dtype in NARROW for row in products)
    names += ["engine"] * (len({row.source == ENGINE for row in products}) > 1)
    others = {row.dtype in NARROW for row in products if row.source != ENGINE}
    names += ["narrow engine"] * ("engine" in names and len(others) > 1)
    if attention:
        names += ["forward", "ratio", "attention edge", "rows"]
        names += ["attention engine"] * (len({row.source == ENGINE for row in attention}) > 1)
    return names


def with_constants(device: Device, values: Constants) -> Fitted:
    """Return a device with constants in their places; a fraction of a peak is at most the whole."""
    eight, forward = "fp8" in device.peak, min(1.0, values["forward"])
    efficiency = Efficiency(
        matmul=min(1.0, values["matmul"]),
        by_dtype={dtype: min(1.0, values[dtype]) for dtype in ("fp8", "fp4", "fp32") if dtype in device.peak},
        edge=values["edge"],
        depth=values["depth"],
        cast=values["cast"] if eight else 0.0,
        memory=device.efficiency.memory,
        attention=AttentionEfficiency(
            forward=forward,
            backward=min(1.0, forward * values["ratio"]),
            edge=values["attention edge"],
            rows=values["rows"],
            over_flash2=device.efficiency.attention.over_flash2 if device.efficiency.attention else 1.0,
        ),
    )
    changed = replace(device, launch_overhead=values["launch"], efficiency=efficiency)
    return Fitted(
        device=changed,
        engine=values["engine"],
        narrow_engine=values["narrow engine"],
        attention_engine=values["attention engine"],
    )


def fit(
    device: Device, rows: Sequence[Row], frozen: Constants | None = None, priors: Constants = STARTS
) -> tuple[Fitted, dict[str, float]]:
    """Return the device with the constants that fit rows best, and these; ``frozen`` ones stay as they are.

    Where fp8 alone was measured, 16 bits reach of their peak what fp8 does, times their ratio among the priors of a
    device that has its own.
    """
    narrow = 1.0 if priors is STARTS else priors["matmul"] / priors["fp8"]
    fixed = {"engine": 1.0, **(frozen or {})}
    names = [name for name in free_constants(rows) if name not in (frozen or {})]
    start = {**priors, **{name: value for name, value in fixed.items() if name not in names}}
    weights = _weights(rows)
    firm = np.array([FIRM if name == "launch" else PRIOR for name in names])

    def place(logs: Vector) -> dict[str, float]:
        found = dict(zip(names, np.exp(logs).tolist(), strict=True))
        only_fp8 = {"matmul": narrow * found["fp8"]} if "fp8" in names and "matmul" not in names else {}
        values = {**start, **only_fp8, **found}
        return values if "narrow engine" in {*found, *fixed} else {**values, "narrow engine": values["engine"]}

    def errors(logs: Vector) -> Vector:
        fitted = with_constants(device, place(logs))
        return np.array([fitted.error(row) for row in rows])

    best = place(descend(errors, weights, np.log([priors[name] for name in names]), firm))
    return with_constants(device, best), {name: best[name] for name in names}


def _weights(rows: Sequence[Row]) -> Vector:
    """Return what rows count: large ones fully, and those of a source together like the root of their number."""
    groups = Counter((row.source, row.family, row.dtype) for row in rows)
    others = {row.family for row in rows if row.source != ENGINE}
    sizes = np.array([min(1.0, row.flops / FULL) ** 0.5 for row in rows])
    alone = np.array([groups[row.source, row.family, row.dtype] ** -0.5 for row in rows])
    second = np.array([SECOND if row.source == ENGINE and row.family in others else 1.0 for row in rows])
    return np.asarray(sizes * alone * second * len(rows) / np.sum(alone * second))


def descend(errors: Callable[[Vector], Vector], weights: Vector, prior: Vector, firm: Vector) -> Vector:
    """Return the point with the least loss near the prior (Levenberg and Marquardt, weights renewed each round)."""
    point, found, damping = prior.copy(), errors(prior), 1e-2
    for _ in range(ROUNDS):
        scaled = weights / np.sqrt(1 + (found / KNEE) ** 2)
        slopes = np.stack([(errors(point + step) - found) / 1e-4 for step in 1e-4 * np.eye(len(point))], axis=1)
        curvature = slopes.T @ (scaled[:, None] * slopes) + np.diag(firm)
        downhill = slopes.T @ (scaled * found) + firm * (point - prior)
        step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), downhill)
        tried = errors(point - step)
        if _loss(tried, weights, firm, point - step - prior) < _loss(found, weights, firm, point - prior):
            point, found, damping = point - step, tried, damping / 3
            if np.max(np.abs(step)) < 1e-5:
                break
        else:
            damping = min(damping * 4, 1e9)
    return point


def _loss(found: Vector, weights: Vector, firm: Vector, away: Vector) -> float:
    bent = 2 * KNEE**2 * (np.sqrt(1 + (found / KNEE) ** 2) - 1)
    return float(np.sum(weights * bent) + np.sum(firm * away**2))
