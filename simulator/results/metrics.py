"""What a timeline says: one code for predictions and measurements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.program.instructions import BACKWARD, STREAM_OF, Kind, Stream
from simulator.results.timeline import Timeline, Times

Intervals = NDArray[np.float64]
"""Rows of begin and end, seconds."""

ACTIONS = (Kind.F, *BACKWARD)
"""What a schedule orders."""

ACTS = np.array([kind in ACTIONS for kind in Kind])
COMPUTES = np.array([STREAM_OF[kind] is Stream.COMPUTE for kind in Kind])
"""For each kind whether it is an action, and whether it computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankMetrics:
    """How one rank spent the step, in seconds; the three parts add up to the step.

    Parameters
    ----------
    compute_time
        Computing.
    exposed_comm_time
        Communicating while not computing.
    bubble_time
        Neither.
    window_bubble
        Share of the time between the rank's own first and last F, B, I or W in which it does neither.
    peak_activation_bytes
        Most that it holds of micro-batches in flight; None if that is not known.
    """

    rank: int
    compute_time: float
    exposed_comm_time: float
    bubble_time: float
    window_bubble: float
    peak_activation_bytes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """A step in numbers; times are means over all ranks, in seconds.

    Parameters
    ----------
    bubble_fraction
        Idle / step, (p - 1) / (m + p - 1) for equal stages and free links.
    device_window_bubble
        Idle share between a rank's own first and last action: the zero-bubble papers' measure (arXiv 2401.10241). It
        leaves out what a barrier at the end costs.
    bubble_overhead
        Idle / compute, Megatron's figure (p - 1) / m.
    overlap_fraction
        Share of communication hidden behind compute; 0 without communication.
    peak_activation_bytes
        On the rank that holds most; None if it is not known of any.
    per_rank
        The recorded ranks.
    """

    step_time: float
    compute_time: float
    exposed_comm_time: float
    comm_time: float
    bubble_time: float
    bubble_fraction: float
    device_window_bubble: float
    bubble_overhead: float
    overlap_fraction: float
    peak_activation_bytes: float | None
    per_rank: tuple[RankMetrics, ...]


def measure(timeline: Timeline) -> Metrics:
    """Return the metrics of one step."""
    step = timeline.step_time
    per_rank, comm, weights = [], [], []
    for rank, members in timeline.ranks.items():
        times = timeline.times(rank)
        compute, messages = _intervals(times)
        either = _union(np.concatenate([compute, messages]))
        busy, total = _length(compute), _length(either)
        per_rank.append(
            RankMetrics(
                rank=rank,
                compute_time=busy,
                exposed_comm_time=total - busy,
                # A step's work may begin before the step before has ended everywhere, so nothing is cut off.
                bubble_time=max(0.0, step - total),
                window_bubble=_window_bubble(times, either),
                peak_activation_bytes=timeline.peak(rank),
            )
        )
        comm.append(_length(messages))
        weights.append(len(members))

    def mean(values: Iterable[float]) -> float:
        return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)

    compute_time = mean(rank.compute_time for rank in per_rank)
    exposed = mean(rank.exposed_comm_time for rank in per_rank)
    bubble = mean(rank.bubble_time for rank in per_rank)
    comm_time = mean(comm)
    return Metrics(
        step_time=step,
        compute_time=compute_time,
        exposed_comm_time=exposed,
        comm_time=comm_time,
        bubble_time=bubble,
        bubble_fraction=bubble / step if step else 0.0,
        device_window_bubble=mean(rank.window_bubble for rank in per_rank),
        bubble_overhead=bubble / compute_time if compute_time else 0.0,
        overlap_fraction=1 - exposed / comm_time if comm_time else 0.0,
        peak_activation_bytes=max(
            (rank.peak_activation_bytes for rank in per_rank if rank.peak_activation_bytes is not None), default=None
        ),
        per_rank=tuple(per_rank),
    )


def _window_bubble(times: Times, busy: Intervals) -> float:
    """Return the idle share of a rank between its own first and last action."""
    acts = ACTS[times.kinds]
    first = float(times.start[acts].min()) if acts.any() else 0.0
    last = float(times.end[acts].max()) if acts.any() else 0.0
    inside = busy[(busy[:, 0] < last) & (busy[:, 1] > first)].clip(first, last)
    return 1 - _length(inside) / (last - first) if last > first else 0.0


def _intervals(times: Times) -> tuple[Intervals, Intervals]:
    """Return when a rank computes and when it communicates."""
    intervals, computes = np.stack([times.start, times.end], axis=1), COMPUTES[times.kinds]
    return _union(intervals[computes]), _union(intervals[~computes])


def _union(intervals: Intervals) -> Intervals:
    """Return disjoint intervals, ascending, that cover the same time."""
    if not len(intervals):
        return intervals
    start, end = intervals[np.argsort(intervals[:, 0], kind="stable")].T
    reached = np.maximum.accumulate(end)
    begins = np.flatnonzero(np.append(True, start[1:] > reached[:-1]))
    return np.stack([start[begins], reached[np.append(begins[1:], len(start)) - 1]], axis=1)


def _length(intervals: Intervals) -> float:
    """Return the length of disjoint intervals."""
    return float(sum((intervals[:, 1] - intervals[:, 0]).tolist()))
