"""Intervals of medians: laws of the bootstrap, and the verdict that rests on them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.load import load
from simulator.results.compare import Comparison, compare
from simulator.results.intervals import median_interval
from simulator.results.recording import Recording
from simulator.results.timeline import Span, Timeline
from simulator.results.verdict import Verdict, judge

INPUTS = load("linear-regression", "local-cpu", "dp2", ["plan.num_microbatches=1"])
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12)


def singles(values: list[float]) -> list[list[float]]:
    return [[value] for value in values]


@given(VALUES)
def test_the_interval_holds_the_median_and_lies_within_what_was_measured(values: list[float]) -> None:
    interval = median_interval(singles(values))
    assert interval is not None
    ordered = sorted(values)
    low, high = ordered[(len(values) - 1) // 2], ordered[len(values) // 2]
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert interval[0] - slack <= (low + high) / 2 <= interval[1] + slack
    assert min(values) - slack <= interval[0] and interval[1] <= max(values) + slack


@pytest.mark.parametrize("factor", [2.0, 10.0])
def test_a_wider_spread_makes_the_interval_as_much_wider(factor: float) -> None:
    values = [0.9, 1.0, 1.02, 1.1, 1.3, 0.97]
    narrow = median_interval(singles(values))
    wide = median_interval(singles([1 + factor * (value - 1) for value in values]))
    assert narrow and wide
    assert wide[1] - wide[0] == pytest.approx(factor * (narrow[1] - narrow[0]))
    assert wide[1] - wide[0] > 0


def test_more_rounds_make_it_narrower() -> None:
    few, many = (median_interval(singles([0.9, 1.0, 1.1] * times)) for times in (1, 20))
    assert few and many
    assert many[1] - many[0] < few[1] - few[0]


def test_steps_of_a_round_are_drawn_together() -> None:
    """Two rounds a machine's drift apart: either may be drawn twice, however often each was measured inside."""
    assert median_interval([[1.0] * 50, [3.0] * 50]) == (1.0, 3.0)
    assert median_interval([[1.0, 1.0, 1.0], [3.0]]) == (1.0, 3.0)


def test_a_single_round_has_no_interval() -> None:
    assert median_interval([[1.0, 2.0, 3.0]]) is None


def recording(source: str, times: list[float]) -> Recording:
    """One step a round, on two ranks that go forward all the time."""

    def step(seconds: float) -> Timeline:
        first = INPUTS.program.lists[0][0]
        spans = tuple(Span(rank, first, 0.0, 0.0, seconds) for rank in (0, 1))
        return Timeline(source=source, begin=0.0, end=seconds, spans=spans, ranks={0: (0,), 1: (1,)})

    return Recording(
        source=source, inputs=INPUTS.resolved(), steps=tuple(map(step, times)), rounds=tuple(range(len(times)))
    )


def compared(errors: list[float]) -> Comparison:
    predicted = recording("predicted", [1 + error for error in errors])
    return compare(predicted, recording("measured", [1.0] * len(errors)), INPUTS.program)


def test_a_comparison_has_the_interval_of_its_error_and_of_each_measured_median() -> None:
    found = compare(recording("predicted", [2.0, 2.0]), recording("measured", [2.0, 1.6]), INPUTS.program)
    assert found.error_interval == pytest.approx((0.0, 0.25))
    assert found.step_time.interval == pytest.approx((1.6, 2.0))
    assert found.to_json()["error_interval"] == pytest.approx([0.0, 0.25])
    assert found.to_json()["kinds_s"]["F"]["measured_interval"] == pytest.approx([3.2, 4.0])
    alone = compared([0.1])
    assert alone.error_interval is None and alone.to_json()["error_interval"] is None


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([0.01, -0.02, 0.04], Verdict.PASSES),
        ([0.01, -0.02, 0.15], Verdict.UNDECIDED),
        ([-0.15, -0.02, -0.01], Verdict.UNDECIDED),
        ([0.3, -0.3], Verdict.UNDECIDED),
        ([0.12, 0.15, 0.2], Verdict.FAILS),
        ([-0.12, -0.15, -0.2], Verdict.FAILS),
        ([0.0], Verdict.UNDECIDED),
    ],
)
def test_a_plan_passes_only_if_the_whole_interval_is_within_the_tolerance(
    errors: list[float], verdict: Verdict
) -> None:
    assert judge(compared(errors), 0.1) is verdict


def test_the_ends_of_the_tolerance_belong_to_it() -> None:
    found = replace(compared([0.0, 0.0]), error_interval=(-0.1, 0.1))
    assert judge(found, 0.1) is Verdict.PASSES
