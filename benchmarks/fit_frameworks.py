"""Fit what each framework adds (`simulator/plan/frameworks.py`) to published runs, and print what remains.

Usage: python benchmarks/fit_frameworks.py [--runs FILE ...] [--framework NAME ...] [--most N] [--gpus N]

Only rows whose role is calibration are fitted; those marked test are predicted with the constants found and reported
beside them. One constant for a framework and a mechanism, whatever the model, the cluster and the source. Constants
are bounded to what is physically plausible; errors beyond 10 % count linearly, so that single rows do not decide.
Nothing is written: the constants are copied by hand into the table, with their sources.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.cost import Calibration
from simulator.engine.run import simulate
from simulator.errors import PlancastError
from simulator.load import Inputs, build
from simulator.plan.frameworks import FRAMEWORKS, NONE, Framework
from simulator.published import Row, convert, read_rows, step_seconds
from simulator.published.frameworks import framework_of

MEASURED = Path(__file__).parents[1].parent / "shared" / "measured"
RUNS = (MEASURED / "runs.csv", MEASURED / "runs_vtrain.csv")

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Where a constant may lie, the step of its derivative, its value without evidence, and where the fit begins."""

    low: float
    high: float
    step: float
    prior: float = 0.0
    start: float


RANGES: Mapping[str, Range] = {
    "host_launch": Range(low=0.0, high=100e-6, step=2e-6, start=40e-6),
    "expert": Range(low=0.0, high=200e-6, step=5e-6, start=40e-6),
    "listing": Range(low=0.0, high=100e-6, step=2e-6, start=20e-6),
    "slot": Range(low=0.0, high=10e-3, step=0.2e-3, start=1e-3),
    "step": Range(low=0.0, high=50e-3, step=2e-3, start=5e-3),
    "elementwise": Range(low=1.0, high=4.0, step=0.1, prior=1.0, start=1.3),
}
"""A launch of eager PyTorch takes the host 5 to 20 us, and up to about five stand for one kernel that is counted."""

FREE: Mapping[str, tuple[str, ...]] = {
    "megatron-deepspeed": ("host_launch", "slot", "step", "elementwise"),
    "megatron": ("step", "elementwise"),
    "megatron-2023": ("step", "elementwise"),
    "megatron-core": ("expert",),
    "fsdp-composer": ("host_launch", "step", "elementwise"),
    "deepspeed-lists": ("listing",),
    "ddp": ("step", "elementwise"),
    "pax": ("elementwise",),
}
"""What the rows of a framework can tell; a slot of Megatron they cannot (`MEGATRON_SLOT`)."""

KNEE, PRIOR, ROUNDS = 0.1, 1e-4, 8
"""Error (log) beyond which it counts linearly; weight of the prior, in units of a constant's range, for each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A row that can be simulated; seconds."""

    row: Row
    inputs: Inputs
    measured: float

    def error(self) -> float:
        """Return log(predicted / measured)."""
        timeline, _ = simulate(self.inputs.program, self.inputs.topology, Calibration())
        return float(np.log(timeline.step_time / self.measured))


def runs(rows: Iterable[Row], role: str) -> dict[str, list[Run]]:
    """Return by framework the runs of one role that state enough and that can be expressed."""
    found: dict[str, list[Run]] = defaultdict(list)
    for row in rows:
        # The role comes first: nothing of another one's rows is looked at.
        if row.text("role") != role or row.text("spec_level") == "C":
            continue
        measured = step_seconds(row)
        try:
            inputs = build(convert(row).documents())
        except PlancastError:
            continue
        if measured:
            found[inputs.plan.framework].append(Run(row=row, inputs=inputs, measured=measured))
    return found


def errors(name: str, framework: Framework, chosen: Sequence[Run]) -> Vector:
    """Return log(predicted / measured) of each run with other constants."""
    shipped = FRAMEWORKS[name]
    FRAMEWORKS[name] = framework
    try:
        return np.array([run.error() for run in chosen])
    finally:
        FRAMEWORKS[name] = shipped


def fit(name: str, chosen: Sequence[Run]) -> Framework:
    """Return a framework with the constants that its runs ask for: Gauss and Newton, inside the ranges."""
    keys = FREE[name]
    ranges = [RANGES[key] for key in keys]
    spans, steps = np.array([each.high - each.low for each in ranges]), np.array([each.step for each in ranges])
    lows, highs = np.array([each.low for each in ranges]), np.array([each.high for each in ranges])
    priors = np.array([each.prior for each in ranges])

    def framework(values: Vector) -> Framework:
        return replace(FRAMEWORKS[name], **dict(zip(keys, values.tolist(), strict=True)))

    def cost(found: Vector, values: Vector) -> float:
        size = np.abs(found)
        huber = np.where(size < KNEE, size**2, KNEE * (2 * size - KNEE))
        return float(huber.sum() + PRIOR * len(chosen) * (((values - priors) / spans) ** 2).sum())

    values = np.array([each.start for each in ranges])
    found = errors(name, framework(values), chosen)
    for _ in range(ROUNDS):
        slopes = np.stack(
            [(errors(name, framework(values + step), chosen) - found) / step.sum() for step in np.diag(steps)], axis=1
        )
        move = _inside(values, lows, highs, slopes, found, (values - priors) / spans)
        for shrink in (1.0, 0.5, 0.1):
            tried = np.clip(values + shrink * move, lows, highs)
            new = errors(name, framework(tried), chosen)
            if cost(new, tried) < cost(found, values):
                break
        else:
            break
        gain = 1 - cost(new, tried) / cost(found, values)
        values, found = tried, new
        if gain < 0.01:
            break
    return framework(values)


def _inside(values: Vector, lows: Vector, highs: Vector, slopes: Vector, found: Vector, away: Vector) -> Vector:
    """Return the step of those constants that are not at an end of their range which they would leave."""
    spans, free = highs - lows, np.ones(len(values), dtype=bool)
    move = np.zeros(len(values))
    while free.any():
        move[:] = 0.0
        move[free] = _move(slopes[:, free], found, away[free], spans[free])
        held = free & (((values <= lows) & (move < 0)) | ((values >= highs) & (move > 0)))
        if not held.any():
            break
        free &= ~held
    return move * free


def _move(slopes: Vector, found: Vector, away: Vector, spans: Vector) -> Vector:
    """Return the step towards the least weighted squares; constants are measured in their ranges."""
    weights = np.minimum(1.0, KNEE / np.maximum(np.abs(found), 1e-12))
    scaled = slopes * spans
    matrix = scaled.T @ (weights[:, None] * scaled) + PRIOR * len(found) * np.eye(len(spans))
    return -np.linalg.solve(matrix, scaled.T @ (weights * found) + PRIOR * len(found) * away) * spans


def describe(found: Vector) -> str:
    """Return the errors of some rows in words."""
    if not len(found):
        return "no rows"
    size = np.abs(np.expm1(found))
    middle, most, bias = np.median(size), np.quantile(size, 0.9), np.expm1(found).mean()
    return f"{len(found)} rows, median {middle:.1%}, mean {size.mean():.1%}, p90 {most:.1%}, bias {bias:+.1%}"


def _gpus(row: Row) -> float:
    """Return the number of GPUs of a row, 0 where it is not stated."""
    return row.number("gpus") or 0


def thin(chosen: Sequence[Run], most: int) -> Sequence[Run]:
    """Return at most so many runs, evenly from the whole list."""
    places = np.linspace(0, len(chosen) - 1, min(most, len(chosen))).round().astype(int)
    return [chosen[place] for place in places]


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", default=RUNS)
    parser.add_argument("--framework", nargs="+", default=list(FREE))
    parser.add_argument("--most", type=int, default=60, help="rows of a framework that are fitted, evenly chosen")
    parser.add_argument("--gpus", type=int, default=10**6, help="rows of at most so many GPUs; large ones take long")
    parser.add_argument("--untested", action="store_true", help="leave out the test rows")
    options = parser.parse_args()
    rows = [row for path in options.runs for row in read_rows(path)]
    rows = [row for row in rows if framework_of(row).name in options.framework and _gpus(row) <= options.gpus]
    calibration = runs(rows, "calibration")
    test = {} if options.untested else runs(rows, "test")
    for name in options.framework:
        chosen = thin(calibration.get(name, []), options.most)
        if not chosen:
            print(f"{name}: no calibration rows")
            continue
        fitted = fit(name, chosen)
        held = thin(test.get(name, []), options.most)
        print(name, {key: f"{getattr(fitted, key):.3g}" for key in FREE[name]}, flush=True)
        for role, members in (("calibration", chosen), ("test", held)):
            for label, one in (("without", FRAMEWORKS[NONE]), ("shipped", FRAMEWORKS[name]), ("fitted", fitted)):
                print(f"  {role:12} {label:8} {describe(errors(name, one, members))}", flush=True)


if __name__ == "__main__":
    main()
