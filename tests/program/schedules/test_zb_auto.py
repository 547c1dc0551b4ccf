"""The automatic scheduler: as good as the listings, and within its limit."""

from itertools import pairwise

import pytest

from simulator.program.schedules import SCHEDULES, Options, Schedule, Times
from tests.program.schedules.list_scheduler import run
from tests.program.schedules.making import make

TIMES = [(1.0, 1.0, 1.0), (1.0, 1.3, 0.7), (1.0, 0.8, 1.2), (1.0, 2.0, 0.5), (1.0, 0.5, 2.0), (0.3, 0.1, 0.2)]
SIZES = [(1, 3), (2, 5), (4, 8), (4, 16), (8, 32)]


def auto(p: int, m: int, times: tuple[float, float, float], limit: float | None = None) -> Schedule:
    forward, input_grad, weight_grad = times
    options = Options(
        activation_limit=limit, times=Times(forward=forward, input_grad=input_grad, weight_grad=weight_grad)
    )
    return SCHEDULES["zb_auto"].build(p, m, options)


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_holds_no_more_than_the_limit(p: int, m: int, times: tuple[float, float, float]) -> None:
    for limit in (1, 1.5, max(1, p // 2), p, 2 * p, 3 * p):
        assert max(run(auto(p, m, times, limit), m, *times).peaks) <= limit


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_no_longer_than_the_listings(p: int, m: int, times: tuple[float, float, float]) -> None:
    for name, limit in (("zb_h1", None), ("zb_h2", 2 * p - 1)):
        assert run(auto(p, m, times, limit), m, *times).bubble <= run(make(name, p, m), m, *times).bubble + 1e-5


@pytest.mark.parametrize("times", TIMES)
def test_more_memory_is_worth_it(times: tuple[float, float, float]) -> None:
    bubbles = [run(auto(4, 16, times, limit), 16, *times).bubble for limit in (1, 2, 4, 7, 12)]
    assert all(less <= more + 1e-9 for more, less in pairwise(bubbles))


@pytest.mark.parametrize("times", TIMES)
def test_one_micro_batch_at_a_time(times: tuple[float, float, float]) -> None:
    """Under a limit of 1 the first rank waits for each micro-batch's way down and up."""
    assert run(auto(4, 8, times, 1), 8, *times).bubble == pytest.approx(8 * 3 * (times[0] + times[1]))


def test_impossible_options() -> None:
    with pytest.raises(ValueError, match="hold 1 micro-batch"):
        Options(activation_limit=0.5)
    with pytest.raises(ValueError, match="nor all zero"):
        Times(forward=0, input_grad=0, weight_grad=0)
