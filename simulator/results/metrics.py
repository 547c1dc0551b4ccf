"""What a timeline says: one code for predictions and measurements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simulator.program.instructions import BACKWARD, STREAM_OF, Kind, Stream
from simulator.results.timeline import Span, Timeline

Interval = tuple[float, float]

ACTIONS = (Kind.F, *BACKWARD)
"""What a schedule orders."""


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
        spans = timeline.of(rank)
        compute, messages = _intervals(spans)
        either = _union([*compute, *messages])
        busy, total = _length(compute), _length(either)
        per_rank.append(
            RankMetrics(
                rank=rank,
                compute_time=busy,
                exposed_comm_time=total - busy,
                # A step's work may begin before the step before has ended everywhere, so nothing is cut off.
                bubble_time=max(0.0, step - total),
                window_bubble=_window_bubble(spans, either),
                peak_activation_bytes=max((size for _, size in timeline.memory.get(rank, ())), default=None),
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


def _window_bubble(spans: Iterable[Span], busy: Iterable[Interval]) -> float:
    """Return the idle share of a rank between its own first and last action."""
    actions = [span for span in spans if span.instruction.kind in ACTIONS]
    first = min((span.start for span in actions), default=0.0)
    last = max((span.end for span in actions), default=0.0)
    inside = ((max(start, first), min(end, last)) for start, end in busy if start < last and end > first)
    return 1 - _length(inside) / (last - first) if last > first else 0.0


def _intervals(spans: Iterable[Span]) -> tuple[list[Interval], list[Interval]]:
    """Return when a rank computes and when it communicates."""
    compute: list[Interval] = []
    messages: list[Interval] = []
    for _, (kind, _, _, _), _, start, end in spans:
        (compute if STREAM_OF[kind] is Stream.COMPUTE else messages).append((start, end))
    return _union(compute), _union(messages)


def _union(intervals: Iterable[Interval]) -> list[Interval]:
    """Return disjoint intervals, ascending, that cover the same time."""
    union: list[Interval] = []
    first, reached = float("-inf"), float("-inf")
    for start, end in sorted(intervals):
        if start > reached:
            union.append((first, reached))
            first = start
        if end > reached:
            reached = end
    return [*union[1:], (first, reached)] if union else []


def _length(intervals: Iterable[Interval]) -> float:
    """Return the length of disjoint intervals."""
    return sum(end - start for start, end in intervals)
