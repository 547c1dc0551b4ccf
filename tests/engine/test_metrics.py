"""What is read from a timeline, by hand."""

from collections.abc import Mapping

import pytest

from simulator.program import Instruction
from simulator.results import Span, Timeline, measure


def timeline(
    spans: list[tuple[int, str, float, float]], ranks: Mapping[int, tuple[int, ...]], end: float = 10.0
) -> Timeline:
    return Timeline(
        source="measured",
        begin=0.0,
        end=end,
        ranks=ranks,
        spans=tuple(Span(rank, Instruction.parse(text), start, start, end) for rank, text, start, end in spans),
    )


def test_compute_exposed_communication_and_bubble_make_the_step() -> None:
    spans = [
        (0, "0F0.0", 0.0, 2.0),
        (0, "0TP_F0.1", 1.0, 4.0),  # one second of it behind compute
        (0, "0SEND_F0", 3.0, 5.0),  # one second of it beside the all-reduce
        (0, "0B0.0", 7.0, 8.0),
        (0, "0REDUCE_GRAD.0", 7.25, 7.75),  # all of it behind compute
    ]
    metrics = measure(timeline(spans, {0: (0,)}))
    assert metrics.step_time == 10.0
    assert metrics.compute_time == 3.0
    assert metrics.comm_time == 4.5
    assert metrics.exposed_comm_time == 3.0
    assert metrics.bubble_time == 4.0
    assert metrics.bubble_fraction == 0.4
    assert metrics.bubble_overhead == pytest.approx(4 / 3)
    assert metrics.overlap_fraction == pytest.approx(1 - 3 / 4.5)


def test_what_a_rank_did_before_the_last_step_had_ended_elsewhere_counts() -> None:
    metrics = measure(timeline([(0, "0F0.0", -1.0, 2.0), (0, "0B0.0", 4.0, 7.0)], {0: (0,)}))
    assert metrics.compute_time == 6.0
    assert metrics.bubble_time == 4.0


def test_the_window_bubble_leaves_out_the_ends_of_the_step() -> None:
    spans = [(0, "0F0.0", 1.0, 2.0), (0, "0SEND_F0", 2.0, 3.0), (0, "0B0.0", 5.0, 6.0), (0, "0OPTIM", 9.0, 10.0)]
    metrics = measure(timeline(spans, {0: (0,)}))
    assert metrics.bubble_fraction == pytest.approx(0.6)
    assert metrics.device_window_bubble == pytest.approx(2 / 5)


def test_a_recorded_rank_counts_for_all_that_it_stands_for() -> None:
    spans = [(0, "0F0.0", 0.0, 8.0), (3, "1F0.0", 0.0, 4.0)]
    metrics = measure(timeline(spans, {0: (0, 1, 2), 3: (3,)}))
    assert metrics.compute_time == (3 * 8.0 + 4.0) / 4
    assert [rank.bubble_time for rank in metrics.per_rank] == [2.0, 6.0]


def test_an_empty_step() -> None:
    metrics = measure(timeline([], {0: (0,)}, end=0.0))
    assert (metrics.step_time, metrics.bubble_fraction, metrics.overlap_fraction) == (0.0, 0.0, 0.0)


def test_a_timeline_survives_its_json() -> None:
    whole = timeline([(0, "0F0.0", 0.0, 8.0), (3, "1F0.0", 0.0, 4.0)], {0: (0, 1, 2), 3: (3,)})
    assert Timeline.from_json(whole.to_json()) == whole
