"""Intervals of medians: laws of the bootstrap, and where comparisons show them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.results.compare import compare
from simulator.results.intervals import median_interval
from tests.compared import INPUTS, compared, recording

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


def test_a_comparison_has_the_interval_of_its_error_and_of_each_measured_median() -> None:
    found = compare(recording("predicted", [2.0, 2.0]), recording("measured", [2.0, 1.6]), INPUTS.program)
    assert found.error_interval == pytest.approx((0.0, 0.25))
    assert found.step_time.interval == pytest.approx((1.6, 2.0))
    assert found.to_json()["error_interval"] == pytest.approx([0.0, 0.25])
    assert found.to_json()["kinds_s"]["F"]["measured_interval"] == pytest.approx([3.2, 4.0])
    alone = compared([0.1])
    assert alone.error_interval is None and alone.to_json()["error_interval"] is None
