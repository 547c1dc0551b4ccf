"""The table of schedules is computed, so the closed forms must come out of it."""

from __future__ import annotations

import pytest

from simulator.planning.schedules import compare_schedules
from simulator.program.schedules import Times

EQUAL = Times()


def figures(p: int, m: int, v: int = 2) -> dict[str, object]:
    return {row.name: row for row in compare_schedules(p, m, EQUAL, v)}


@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 8), (8, 32)])
def test_bubbles_and_peaks(p: int, m: int) -> None:
    found = figures(p, m)
    classic = (p - 1) / (m + p - 1)
    assert found["gpipe"].bubble_fraction == pytest.approx(classic, abs=1e-9)
    assert found["1f1b"].bubble_fraction == pytest.approx(classic, abs=1e-9)
    assert found["interleaved_1f1b"].bubble_fraction == pytest.approx((p - 1) / (2 * m + p - 1), abs=1e-9)
    assert found["zb_h1"].bubble_fraction == pytest.approx((p - 1) / (3 * m + p - 1), abs=1e-9)
    assert found["zb_h2"].device_window_bubble == pytest.approx(0, abs=1e-9)
    assert found["zbv"].device_window_bubble == pytest.approx(0, abs=1e-9)
    assert found["gpipe"].peak_microbatches == m
    assert found["1f1b"].peak_microbatches == p
    assert found["zb_h2"].peak_microbatches == 2 * p - 1


@pytest.mark.parametrize("p", [4, 6, 8])
def test_two_replicas_share_the_microbatches(p: int) -> None:
    """Chimera with m = p and B = 2 F: (p - 2) / (3 m / 2 + p - 2) of the step (arXiv 2107.06925)."""
    found = figures(p, p)["chimera"]
    assert found.bubble_fraction == pytest.approx((p - 2) / (1.5 * p + p - 2), abs=1e-9)
    assert found.peak_microbatches == p


def test_what_the_numbers_rule_out_is_listed_with_its_reason() -> None:
    found = figures(3, 5)
    assert "not even" in found["chimera"].problem
    assert not found["1f1b"].problem


def test_a_limit_binds_where_it_is_read_and_stages_are_as_many_as_asked_for() -> None:
    found = {row.name: row for row in compare_schedules(4, 8, EQUAL, virtual=1, activation_limit=2)}
    assert found["zb_auto"].peak_microbatches == 2
    assert found["zb_h1"].peak_microbatches == 4
    assert found["interleaved_1f1b"].bubble_fraction == found["1f1b"].bubble_fraction, "one stage a rank is 1F1B"
    assert {row.name for row in found.values() if row.num_stages_per_rank == 2} == {
        "zbv",
        "v_half",
        "v_min",
        "dualpipe_v",
    }
    assert "num_stages_per_rank 1 is not even" in found["hanayo"].problem


def test_messages() -> None:
    found = figures(4, 8)
    assert found["1f1b"].messages == 2 * 3
    assert found["interleaved_1f1b"].messages == 2 * 7
    assert found["zbv"].messages == 2 * 6, "the turn of the V stays on its rank"
