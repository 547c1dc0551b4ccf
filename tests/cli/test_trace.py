"""Traces that Perfetto opens: slices that nest, tracks that say whose they are."""

import gzip
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.load import load
from simulator.planning import predict
from simulator.reports.trace import TICK, write_trace
from simulator.results.recording import read_json
from simulator.results.timeline import Span, Timeline

Run = Callable[..., Any]
Events = list[dict[str, Any]]

ROUNDING = 1e-6
"""Microseconds."""


def predicted(plan: str, *settings: str) -> Timeline:
    return predict(load("gpt-tiny", "local-cpu", plan, settings)).timeline


def measured(step: Timeline) -> Timeline:
    """Return the step as clocks of a real machine might see it: rank 0 begins early, and ends overlap a little."""
    skew = 0.01 * step.step_time
    spans = tuple(
        Span(rank, span.instruction, span.issued - skew, span.start - skew, span.end + skew)
        for rank in (0, 1)
        for span in step.of(min(rank, max(step.ranks)))
    )
    return Timeline(
        source="measured", begin=step.begin, end=step.end + skew, spans=spans, ranks={rank: (rank,) for rank in (0, 1)}
    )


def by_thread(events: Events) -> dict[tuple[int, int], Events]:
    threads: dict[tuple[int, int], Events] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            threads[event["pid"], event["tid"]].append(event)
    return threads


@pytest.mark.parametrize(
    ("plan", "settings"), [("dp2", ()), ("tp2", ()), ("pp2", ()), ("pp2", ("plan.schedule=interleaved_1f1b",))]
)
def test_slices_of_a_thread_follow_each_other(tmp_path: Path, plan: str, settings: tuple[str, ...]) -> None:
    step = predicted(plan, *settings)
    path = tmp_path / "trace.json.gz"
    write_trace(path, {"predicted": step, "measured": measured(step)})
    events: Events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    threads = by_thread(events)
    assert sum(map(len, threads.values())) == len(step.spans) + len(measured(step).spans)
    for slices in threads.values():
        reached = 0.0
        for each in sorted(slices, key=lambda event: event["ts"]):
            assert each["ts"] >= reached - ROUNDING, each
            assert each["dur"] >= 0, each
            reached = each["ts"] + each["dur"]


def test_a_prediction_is_shown_uncut(tmp_path: Path) -> None:
    """Hanayo's messages of several stages are under way at the same time: each stage has a thread of its own."""
    step = predicted("pp4", "topology.node.count=4", "model.num_hidden_layers=8", "plan.schedule=hanayo")
    write_trace(tmp_path / "trace.json", {"predicted": step})
    shown = [event for event in read_json(tmp_path / "trace.json")["traceEvents"] if event["ph"] == "X"]
    times = sorted((each["name"], each["ts"] * TICK, each["dur"] * TICK) for each in shown)
    wanted = sorted((str(span.instruction), span.start - step.begin, span.end - span.start) for span in step.spans)
    assert [name for name, _, _ in times] == [name for name, _, _ in wanted]
    assert [t for _, *pair in times for t in pair] == pytest.approx([t for _, *pair in wanted for t in pair], abs=1e-12)


def test_tracks_are_named_and_lie_side_by_side(tmp_path: Path) -> None:
    step = predicted("pp2")
    write_trace(tmp_path / "trace.json", {"predicted": step, "measured": measured(step)})
    events = read_json(tmp_path / "trace.json")["traceEvents"]
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert [names[process] for process in sorted(names)] == [
        "predicted rank 0",
        "measured rank 0",
        "predicted rank 1",
        "measured rank 1",
    ]
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    assert set(by_thread(events)) == named


def test_activations_are_counters(tmp_path: Path) -> None:
    step = predicted("pp2")
    write_trace(tmp_path / "trace.json", {"predicted": step})
    counters = [event for event in read_json(tmp_path / "trace.json")["traceEvents"] if event["ph"] == "C"]
    for process, rank in enumerate(step.ranks):
        shown = [(each["ts"] * TICK, each["args"]["bytes"]) for each in counters if each["pid"] == process]
        assert [size for _, size in shown] == [size for _, size in step.memory[rank]]
        assert [at for at, _ in shown] == pytest.approx([instant for instant, _ in step.memory[rank]])
        assert shown[0][1] == shown[-1][1] == 0 < max(size for _, size in shown)


def test_folded_ranks_say_for_whom_they_stand(tmp_path: Path) -> None:
    step = predicted("dp2")
    write_trace(tmp_path / "trace.json", {"predicted": step})
    events = read_json(tmp_path / "trace.json")["traceEvents"]
    labels = [event["args"]["labels"] for event in events if event["name"] == "process_labels"]
    assert labels == ["stands for 2 identical ranks: 0 to 1"]


def test_simulate_writes_a_trace(run: Run, tiny: list[str], tmp_path: Path) -> None:
    path = tmp_path / "step.json.gz"
    done = run("simulate", *tiny, "tp2", "--trace", path, "--format", "json")
    assert done.code == 0
    slices = [event for event in read_json(path)["traceEvents"] if event["ph"] == "X"]
    longest = max(each["ts"] + each["dur"] for each in slices)
    assert longest * TICK == pytest.approx(json.loads(done.out)["step_time_s"])
