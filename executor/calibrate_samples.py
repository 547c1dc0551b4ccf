"""What a rank measured, and the calibration that the samples of all ranks make."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from simulator.cost.calibration import Calibration, message_key

MessageKey = tuple[str, tuple[int, ...], float]
Moments = list[tuple[float, float]]


def _lists() -> defaultdict[Any, list[Any]]:
    return defaultdict(list)


@dataclass(slots=True)
class Samples:
    """What one rank measured, in seconds unless said otherwise; plain containers that can be sent.

    Parameters
    ----------
    layers
        (layer key, part) -> seconds.
    messages
        (operation, ranks, bytes) -> (arrival, end) of each message on rank 0's clock; a sender stands before its
        receiver.
    updates
        (optimizer, parameters) -> seconds.
    passes
        (stage, segment, forward, backward, or either half of a split backward) -> seconds: the compute between two
        meetings of ranks.
    starts
        Part of the calibration -> seconds that a backward takes before its first layer.
    device
        Figure of the device -> values, in its own SI unit.
    """

    layers: dict[tuple[str, str], list[float]] = field(default_factory=_lists)
    messages: dict[MessageKey, Moments] = field(default_factory=_lists)
    updates: dict[tuple[str, int], list[float]] = field(default_factory=_lists)
    passes: dict[tuple[int, int, str], list[float]] = field(default_factory=_lists)
    starts: dict[str, list[float]] = field(default_factory=_lists)
    device: dict[str, list[float]] = field(default_factory=_lists)


def combine(
    by_rank: Sequence[Samples], about: Mapping[str, str], within_host: Callable[[tuple[int, ...]], bool] = bool
) -> Calibration:
    """Return the calibration that the samples of all ranks make: means, because a step is a sum of such times.

    Parameters
    ----------
    by_rank
        Samples of each rank.
    about
        Date, machine and versions.
    within_host
        Tells whether some ranks share a machine; messages between machines are left out.
    """
    layers: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    updates: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    records: dict[MessageKey, dict[int, Moments]] = defaultdict(dict)
    starts: dict[str, list[float]] = defaultdict(list)
    device: dict[str, list[float]] = defaultdict(list)
    for rank, samples in enumerate(by_rank):
        for part, seconds in samples.starts.items():
            starts[part] += seconds
        for figure, values in samples.device.items():
            device[figure] += values
        for (key, part), seconds in samples.layers.items():
            layers[key][part] += seconds
        for (kind, parameters), seconds in samples.updates.items():
            updates[kind][parameters] += seconds
        for message, moments in samples.messages.items():
            records[message][rank] = moments
    messages: dict[tuple[str, int], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (operation, ranks, size), seen in records.items():
        if not within_host(ranks):
            continue  # Between hosts the topology's links are used; one table cannot stand for both.
        messages[(operation, len(ranks))][size] += _durations(operation, ranks, seen)
    return Calibration(
        layers={key: {part: fmean(seconds) for part, seconds in parts.items()} for key, parts in layers.items()},
        messages={
            message_key(operation, num_ranks): tuple((size, trimmed_mean(by_size[size])) for size in sorted(by_size))
            for (operation, num_ranks), by_size in messages.items()
        },
        updates={kind: _line({n: fmean(seconds) for n, seconds in points.items()}) for kind, points in updates.items()},
        starts={part: trimmed_mean(seconds) for part, seconds in starts.items()},
        jitter=jitter_of(by_rank),
        device={figure: (median(values),) for figure, values in device.items()},
        about=dict(about),
    )


def jitter_of(by_rank: Sequence[Samples]) -> float:
    """Return the relative standard deviation of passes, beyond the drift that all ranks share.

    Each pass is compared with its own mean over the samples, so that ranks may do different things; what all have in
    common in one sample is the machine's drift, which a paired comparison sees on both sides. From the mean absolute
    deviation (times sqrt(pi / 2), as for a normal distribution), so that one stall does not set the figure.
    """
    weights: list[float] = []
    relative: list[list[float]] = []
    for samples in by_rank:
        for seconds in samples.passes.values():
            mean = fmean(seconds)
            if len(seconds) > 1 and mean > 0:
                weights.append(mean)
                relative.append([value / mean for value in seconds])
    if len(relative) < 2:
        return 0.0
    count = len(relative[0])
    total = sum(weights)
    drift = [sum(w * row[s] for w, row in zip(weights, relative, strict=True)) / total for s in range(count)]
    deviation = sum(
        w * fmean(abs(value - at) for value, at in zip(row, drift, strict=True))
        for w, row in zip(weights, relative, strict=True)
    )
    # Means were taken from the same few values: the deviation from the true ones is larger.
    freedom = (1 - 1 / count) * (1 - 1 / len(relative))
    return deviation / total * math.sqrt(math.pi / 2) / math.sqrt(freedom)


def _durations(operation: str, ranks: tuple[int, ...], times: Mapping[int, Moments]) -> list[float]:
    """Return the time of each message from its last participant's arrival to its end: the receiver's, or the mean."""
    durations = []
    for moments in zip(*(times[rank] for rank in ranks), strict=True):
        start = max(arrival for arrival, _ in moments)
        end = moments[-1][1] if operation == "send" else fmean(end for _, end in moments)
        durations.append(max(0.0, end - start))
    return durations


def trimmed_mean(values: Sequence[float], cut: float = 0.1) -> float:
    """Return the mean without the largest and smallest tenth: one stall of a busy machine must not set a price."""
    ordered = sorted(values)
    drop = int(len(ordered) * cut)
    return fmean(ordered[drop : len(ordered) - drop])


def _line(points: Mapping[int, float]) -> tuple[float, float]:
    """Return (fixed seconds, seconds a parameter) through measured updates; a proportion if there is only one."""
    if len(points) == 1:
        ((parameters, seconds),) = points.items()
        return 0.0, seconds / parameters
    centre, level = fmean(points), fmean(points.values())
    slope = sum((n - centre) * (t - level) for n, t in points.items()) / sum((n - centre) ** 2 for n in points)
    fixed = level - slope * centre
    return (fixed, slope) if fixed >= 0 and slope >= 0 else (0.0, sum(points.values()) / sum(points))
