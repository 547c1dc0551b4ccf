"""Timelines as a Chrome trace, which https://ui.perfetto.dev opens.

One process a rank and source, one thread a lane. Perfetto wants slices of one thread to nest; instructions of a lane
run one after the other, and what a measurement's clock says otherwise is cut. A counter shows each rank's activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simulator.program.instructions import Lane, Stream
from simulator.results.recording import write_json
from simulator.results.timeline import Span, Timeline
from simulator.units import parse_seconds

TICK = parse_seconds("1 us")
"""Seconds of one unit of time in the Chrome trace format."""

ORDER = {stream: index for index, stream in enumerate(Stream)}
"""Threads of a process: compute comes first."""


def write_trace(path: str | Path, timelines: Mapping[str, Timeline]) -> None:
    """Write a trace, compressed when the name ends in ``.gz``.

    Parameters
    ----------
    path
        File to write.
    timelines
        Name of the source (``predicted``, ``measured``) -> step; all are shown from their begin.
    """
    write_json(path, {"displayTimeUnit": "ms", "traceEvents": list(_events(timelines))})


def _events(timelines: Mapping[str, Timeline]) -> Iterator[dict[str, Any]]:
    # Sorted by rank first, so that prediction and measurement of a rank lie below each other.
    tracks = sorted((rank, order, source) for order, source in enumerate(timelines) for rank in timelines[source].ranks)
    for process, (rank, _, source) in enumerate(tracks):
        timeline = timelines[source]
        yield _name(process, "process_name", f"{source} rank {rank}")
        yield {"ph": "M", "pid": process, "name": "process_sort_index", "args": {"sort_index": process}}
        members = timeline.ranks[rank]
        if len(members) > 1:
            label = f"stands for {len(members)} identical ranks: {members[0]} to {members[-1]}"
            yield {"ph": "M", "pid": process, "name": "process_labels", "args": {"labels": label}}
        lanes: dict[Lane, list[Span]] = {}
        for span in timeline.of(rank):
            lanes.setdefault(span.instruction.lane, []).append(span)
        streams = [stream for stream, _ in lanes]
        for thread, lane in enumerate(sorted(lanes, key=lambda each: (ORDER[each[0]], each[1]))):
            stream, stage = lane
            label = f"{stream} of stage {stage}" if streams.count(stream) > 1 else stream.value
            yield _name(process, "thread_name", label, thread)
            sort = {"sort_index": thread}
            yield {"ph": "M", "pid": process, "tid": thread, "name": "thread_sort_index", "args": sort}
            for event in _slices(lanes[lane], timeline.first):
                yield {"ph": "X", "pid": process, "tid": thread, **event}
        for instant, size in timeline.memory.get(rank, ()):
            ticks = max(0.0, instant - timeline.first) / TICK
            yield {"ph": "C", "pid": process, "name": "activations", "ts": ticks, "args": {"bytes": size}}


def _name(process: int, kind: str, name: str, thread: int = 0) -> dict[str, Any]:
    return {"ph": "M", "pid": process, "tid": thread, "name": kind, "args": {"name": name}}


def _slices(spans: list[Span], begin: float) -> Iterator[dict[str, Any]]:
    reached = begin
    for span in sorted(spans, key=lambda each: (each.start, each.end)):
        start = max(span.start, reached)
        reached = max(span.end, start)
        instruction = span.instruction
        yield {
            "name": str(instruction),
            "cat": instruction.kind.value,
            "ts": (start - begin) / TICK,
            "dur": (reached - start) / TICK,
            "args": {
                "stage": instruction.stage,
                "microbatch": instruction.microbatch,
                "issued_us": (span.issued - begin) / TICK,
                "waited_us": (span.start - span.issued) / TICK,
            },
        }
