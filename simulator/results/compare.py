"""How far a prediction is from a measurement: signed errors, (predicted - measured) / measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from statistics import median
from typing import Any

from simulator.program.instructions import Kind
from simulator.program.program import Program
from simulator.results.intervals import Interval, median_interval
from simulator.results.metrics import Metrics, measure
from simulator.results.order import disorder
from simulator.results.recording import Recording
from simulator.results.timeline import Timeline

SHOWN = 5
"""Instructions in another order that are named; where one is, many are."""

LOW, HIGH = 0.1, 0.9
"""The spread of a measurement is shown from its 10th to its 90th percentile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One quantity, predicted and measured; where it was measured in several rounds, the interval of the median."""

    predicted: float
    measured: float
    interval: Interval | None = None

    @property
    def error(self) -> float:
        """Signed relative error; infinite where something was predicted and nothing measured."""
        if self.measured:
            return (self.predicted - self.measured) / self.measured
        return math.inf if self.predicted else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A prediction beside a measurement; times in seconds, medians over the steps.

    Parameters
    ----------
    step_time
        Medians over all steps.
    error
        Signed error of the step time: the median over the rounds of the error in each round, because machines drift.
    error_interval
        95 % interval of that median; None after a single round.
    round_errors
        Round -> its error.
    spread
        10th and 90th percentile of the measured step times.
    bubble_fraction, compute_time, exposed_comm_time
        Means over ranks.
    kinds
        Instruction kind -> seconds of all its instructions on all ranks in one step.
    activations
        Rank -> peak bytes of activations; only ranks of which both are known.
    disorder
        What came in another order than the Program fixes, in any predicted or measured step, in words (``order.py``
        says what that is); the first few.
    same_inputs
        Whether both were made from the same model, topology and plan.
    steps
        Measured steps.
    """

    step_time: Pair
    error: float
    error_interval: Interval | None
    round_errors: Mapping[int, float]
    spread: tuple[float, float]
    bubble_fraction: Pair
    compute_time: Pair
    exposed_comm_time: Pair
    kinds: Mapping[Kind, Pair]
    activations: Mapping[int, Pair]
    disorder: tuple[str, ...]
    same_inputs: bool
    steps: int

    @property
    def same_order(self) -> bool:
        """Whether both kept to the order that the Program fixes, on all ranks and between them."""
        return not self.disorder

    @property
    def peak_activations(self) -> Pair | None:
        """Bytes on the rank that holds most, in the prediction and in the measurement each."""
        pairs = self.activations.values()
        if not pairs:
            return None
        return Pair(predicted=max(pair.predicted for pair in pairs), measured=max(pair.measured for pair in pairs))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""

        def pair(value: Pair) -> dict[str, Any]:
            error = value.error if math.isfinite(value.error) else None
            return {
                "predicted": value.predicted,
                "measured": value.measured,
                "error": error,
                "measured_interval": list(value.interval) if value.interval else None,
            }

        return {
            "step_time_s": pair(self.step_time) | {"p10": self.spread[0], "p90": self.spread[1]},
            "error": self.error,
            "error_interval": list(self.error_interval) if self.error_interval else None,
            "round_errors": {str(number): error for number, error in self.round_errors.items()},
            "bubble_fraction": pair(self.bubble_fraction),
            "compute_time_s": pair(self.compute_time),
            "exposed_comm_time_s": pair(self.exposed_comm_time),
            "peak_activation_bytes": pair(self.peak_activations) if self.peak_activations else None,
            "peak_activation_bytes_by_rank": {str(rank): pair(value) for rank, value in self.activations.items()},
            "kinds_s": {kind.value: pair(value) for kind, value in self.kinds.items()},
            "same_order": self.same_order,
            "disorder": list(self.disorder),
            "same_inputs": self.same_inputs,
            "steps": self.steps,
        }


def compare(predicted: Recording, measured: Recording, program: Program) -> Comparison:
    """Compare two recordings of one plan, which compiles to ``program``; both must hold at least one step."""
    ours, theirs = [measure(step) for step in predicted.steps], [measure(step) for step in measured.steps]
    times = [metrics.step_time for metrics in theirs]
    disorders = chain.from_iterable(disorder(program, each.steps, each.clock_error) for each in (predicted, measured))
    errors = _round_errors(predicted, measured)

    def pair(name: str) -> Pair:
        values = [getattr(metrics, name) for metrics in theirs]
        return Pair(predicted=_median(ours, name), measured=median(values), interval=_interval(measured, values))

    return Comparison(
        step_time=pair("step_time"),
        error=median(errors.values()),
        error_interval=median_interval([[error] for error in errors.values()]),
        round_errors=errors,
        spread=(quantile(times, LOW), quantile(times, HIGH)),
        bubble_fraction=pair("bubble_fraction"),
        compute_time=pair("compute_time"),
        exposed_comm_time=pair("exposed_comm_time"),
        kinds=_kinds(predicted, measured),
        activations=_activations(predicted.steps[0], ours[0], measured.steps[0], theirs[0]),
        disorder=tuple(islice(disorders, SHOWN)),
        same_inputs=predicted.inputs == measured.inputs,
        steps=len(measured.steps),
    )


def quantile(values: Iterable[float], fraction: float) -> float:
    """Return a quantile by linear interpolation between the sorted values."""
    ordered = sorted(values)
    place = fraction * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _median(steps: Iterable[Metrics], name: str) -> float:
    return float(median(getattr(metrics, name) for metrics in steps))


def _round_errors(predicted: Recording, measured: Recording) -> dict[int, float]:
    """Return the error in each measured round; a round that was not predicted by itself takes the median prediction."""
    ours, theirs = (_by_round(each, [step.step_time for step in each.steps]) for each in (predicted, measured))
    overall = median(step.step_time for step in predicted.steps)
    return {
        number: Pair(predicted=median(ours[number]) if number in ours else overall, measured=median(times)).error
        for number, times in theirs.items()
    }


def _by_round(recording: Recording, values: Iterable[float]) -> dict[int, list[float]]:
    """Return values of a recording's steps by the steps' rounds."""
    rounds: dict[int, list[float]] = defaultdict(list)
    for number, value in zip(recording.rounds, values, strict=True):
        rounds[number].append(value)
    return rounds


def _interval(recording: Recording, values: Iterable[float]) -> Interval | None:
    return median_interval(list(_by_round(recording, values).values()))


def _kinds(predicted: Recording, measured: Recording) -> dict[Kind, Pair]:
    ours, theirs = ([_kind_seconds(step) for step in each.steps] for each in (predicted, measured))
    return {
        kind: Pair(
            predicted=median(step[kind] for step in ours),
            measured=median(step[kind] for step in theirs),
            interval=_interval(measured, [step[kind] for step in theirs]),
        )
        for kind in Kind
        if any(kind in step for step in (*ours, *theirs))
    }


def _activations(predicted: Timeline, ours: Metrics, measured: Timeline, theirs: Metrics) -> dict[int, Pair]:
    """Return the peaks of all ranks; all steps hold the same."""
    expected, found = _peaks(predicted, ours), _peaks(measured, theirs)
    return {rank: Pair(predicted=expected[rank], measured=found[rank]) for rank in sorted(expected.keys() & found)}


def _peaks(timeline: Timeline, metrics: Metrics) -> dict[int, float]:
    return {
        member: rank.peak_activation_bytes
        for rank in metrics.per_rank
        if rank.peak_activation_bytes is not None
        for member in timeline.ranks[rank.rank]
    }


def _kind_seconds(timeline: Timeline) -> defaultdict[Kind, float]:
    """Return the seconds that all ranks together spend on each kind."""
    seconds: defaultdict[Kind, float] = defaultdict(float)
    for span in timeline.spans:
        seconds[span.instruction.kind] += (span.end - span.start) * len(timeline.ranks[span.rank])
    return seconds
