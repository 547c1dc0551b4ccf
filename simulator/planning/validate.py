"""Predict, run and compare plans on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from simulator import __version__
from simulator.cost import Calibration
from simulator.launch import Launch, emulated, run
from simulator.load import Inputs
from simulator.planning.fit import require_fit
from simulator.planning.predict import Prediction, load_calibration, predict
from simulator.results.compare import Comparison, compare
from simulator.results.recording import Recording
from simulator.results.timeline import Timeline
from simulator.results.verdict import Verdict, judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """One plan, predicted and measured.

    Parameters
    ----------
    name
        Of the job: model and plan.
    comparison
        Prediction beside measurement.
    ahead
        Step time in seconds predicted before the run from an earlier calibration; None without one.
    timelines
        The step of median length, ``predicted`` and ``measured``.
    calibrated
        Whether the prediction rests on times measured beside the steps; otherwise on the topology's numbers.
    verdict
        On the error, where there is a tolerance.
    """

    name: str
    comparison: Comparison
    ahead: float | None
    timelines: Mapping[str, Timeline]
    calibrated: bool
    verdict: Verdict | None = None

    def judged(self, tolerance: float) -> Validation:
        """Return the same with a verdict; the tolerance is a fraction (1)."""
        return replace(self, verdict=judge(self.comparison, tolerance))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        verdict = {"verdict": self.verdict.value} if self.verdict else {}
        return {"name": self.name, "predicted_ahead_s": self.ahead, **verdict, **self.comparison.to_json()}


def _as_they_are(inputs: Inputs) -> Inputs:
    return inputs


def validate(
    launch: Launch, earlier: Calibration | None = None, seen: Callable[[Inputs], Inputs] = _as_they_are
) -> list[Validation]:
    """Run all jobs of a launch, and predict each round from the calibration that was taken beside it.

    A machine whose speed drifts is compared with itself: the error is the median over rounds of predicted / measured.
    Calibration sees layers and links only, never the plan's own steps. Emulated devices are not calibrated: their
    computations take what the topology predicts, and so are their messages predicted.

    Parameters
    ----------
    launch
        What to run; whether to calibrate in between is decided here.
    earlier
        A calibration from before, to predict ahead of the run.
    seen
        Makes of a job's inputs those from which to predict it, where the network is not quite the topology's.
    """
    jobs = launch.jobs()
    require_fit(jobs)
    launch = replace(launch, calibrate=not any(emulated(inputs.topology) for inputs in jobs.values()))
    run(launch)
    results = []
    for name, inputs in jobs.items():
        folder = launch.out / name
        given = seen(inputs)
        ahead = predict(given, earlier).metrics.step_time if earlier else None
        measured = Recording.load(folder / "measured.json.gz")
        paths = calibrations(folder, launch.rounds) if launch.calibrate else []
        predictions = [predict(given, load_calibration(path)) for path in paths] or [predict(given)]
        predicted = _recording(predictions)
        predicted.save(folder / "predicted.json.gz")
        middle = sorted(measured.steps, key=lambda step: step.step_time)[len(measured.steps) // 2]
        results.append(
            Validation(
                name=name,
                comparison=compare(predicted, measured, inputs.program),
                ahead=ahead,
                timelines={"predicted": _middle(predictions).timeline, "measured": middle},
                calibrated=launch.calibrate,
            )
        )
    return results


def calibrations(folder: Path, rounds: int) -> list[Path]:
    """Return the calibration files of a job, one a round."""
    return [folder / f"calibration-{turn}.json" for turn in range(rounds)]


def merge(parts: list[Calibration]) -> Calibration:
    """Return one calibration of several: tables joined; median and spread where more than one measured the same."""
    layers: dict[str, dict[str, float]] = {}
    for each in parts:
        for key, times in each.layers.items():
            layers.setdefault(key, {}).update(times)
    messages: dict[str, dict[float, list[float]]] = {}
    for each in parts:
        for key, points in each.messages.items():
            for size, seconds in points:
                messages.setdefault(key, {}).setdefault(size, []).append(seconds)
    merged = Calibration(
        layers={
            key: {part: median(e.layers[key][part] for e in parts if part in e.layers.get(key, {})) for part in found}
            for key, found in layers.items()
        },
        messages={key: tuple((s, median(sizes[s])) for s in sorted(sizes)) for key, sizes in messages.items()},
        updates={
            kind: tuple(median(e.updates[kind][i] for e in parts if kind in e.updates) for i in (0, 1))  # type: ignore[misc]
            for kind in {kind for each in parts for kind in each.updates}
        },
        starts={
            part: median(e.starts[part] for e in parts if part in e.starts)
            for part in {part for each in parts for part in each.starts}
        },
        jitter=median(each.jitter for each in parts),
        device={
            figure: tuple(value for each in parts for value in each.device.get(figure, ()))
            for figure in sorted({figure for each in parts for figure in each.device})
        },
        about=parts[-1].about,
    )
    return replace(merged, spread=spread(parts, merged))


def spread(parts: list[Calibration], merged: Calibration) -> dict[str, tuple[float, float]]:
    """Return for each time that was measured more than once the least and the most, over the one of the merged."""
    seen: dict[str, list[float]] = {}
    for each in parts:
        for name, seconds in each.times().items():
            seen.setdefault(name, []).append(seconds)
    return {
        name: (min(seen[name]) / seconds, max(seen[name]) / seconds)
        for name, seconds in merged.times().items()
        if len(seen[name]) > 1 and seconds > 0
    }


def _middle(predictions: list[Prediction]) -> Prediction:
    return sorted(predictions, key=lambda each: each.metrics.step_time)[len(predictions) // 2]


def _recording(predictions: list[Prediction]) -> Recording:
    return Recording(
        source="predicted",
        inputs=predictions[0].inputs.resolved(),
        steps=tuple(each.timeline for each in predictions),
        rounds=tuple(range(len(predictions))),
        about={"plancast": __version__, "basis": predictions[0].basis},
    )
