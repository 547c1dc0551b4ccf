"""Bubbles and peak activations against the papers' closed forms, by an independent list scheduler.

p ranks, m micro-batches, v stages per rank; F, I, W times of a rank's whole share, B = I + W. The bubble is the
makespan less m (F + B): it has one barrier, at the end of the step. The window is what a rank idles between its own
first and last action, the zero-bubble papers' measure.
"""

from collections.abc import Callable
from itertools import product
from math import ceil

import pytest

from tests.program.schedules.list_scheduler import run
from tests.program.schedules.making import make

SIZES = [(2, 4), (4, 8), (4, 16), (8, 32)]
ODD_SIZES = [(3, 7), (4, 9), (5, 9), (8, 31)]
TIMES = [
    (1.0, 1.0, 1.0),
    (1.0, 1.3, 0.7),
    (1.0, 0.8, 1.2),
    (2.0, 1.0, 1.0),
    (3.0, 0.5, 0.5),
    (1.0, 3.0, 0.5),
    (1.0, 0.2, 3.0),
    (1.0, 2.0, 2.0),
]

exactly = pytest.approx
every_size = pytest.mark.parametrize(("p", "m"), [*SIZES, *ODD_SIZES])
even_size = pytest.mark.parametrize(("p", "m"), SIZES)

Form = Callable[..., float]

BUBBLES: dict[str, Form] = {
    # Huang et al. 2019, arXiv 1811.06965, figure 2b: one rank at work at a time
    "naive": lambda p, m, f, i, w: m * (p - 1) * (f + i + w),
    # Huang et al. 2019, arXiv 1811.06965
    "gpipe": lambda p, m, f, i, w: (p - 1) * (f + i + w),
    # DAPPLE, arXiv 2007.01045; PipeDream-flush, arXiv 2006.09503
    "1f1b": lambda p, m, f, i, w: (p - 1) * (f + i + w),
    # Qi et al. 2023, arXiv 2401.10241, table 1, whose F + I - W is for W <= F and W <= I
    "zb_h1": lambda p, m, f, i, w: (p - 1) * max(f + i - w, f, i),
    # The same table's (p - 1) (F + I - 2 W) is the window; the last rank starts (p - 1) F late
    "zb_h2": lambda p, m, f, i, w: (p - 1) * max(f + i - 2 * w, i - f, f),
}
BUBBLES_OVER_V: dict[str, Form] = {
    # Narayanan et al. 2021, arXiv 2104.04473, section 2.2
    "interleaved_1f1b": lambda p, m, f, i, w: (p - 1) * (f + i + w),
    # Lamy-Poirier 2022, arXiv 2211.05953
    "looped_bfs": lambda p, m, f, i, w: (p - 1) * (f + i + w),
    # ZB1P and interleaving together
    "interleaved_zero_bubble": lambda p, m, f, i, w: (p - 1) * max(f + i - w, f, i),
}
WINDOWS: dict[str, Form] = {
    # Qi et al. 2023, arXiv 2401.10241, table 1
    "zb_h1": lambda p, m, f, i, w: (p - 1) * (i + max(0, f - w)),
    "zb_h2": lambda p, m, f, i, w: (p - 1) * max(f + i - 2 * w, i - f, 0),
}
PEAKS: dict[str, Callable[[int, int, int], float]] = {
    "naive": lambda p, m, rank: 1,
    "gpipe": lambda p, m, rank: m,
    "1f1b": lambda p, m, rank: min(m, p - rank),
    "looped_bfs": lambda p, m, rank: m,
    "zb_h1": lambda p, m, rank: p,
    "interleaved_zero_bubble": lambda p, m, rank: p,
    "zb_h2": lambda p, m, rank: min(m, 2 * p - 1),
    "zbv": lambda p, m, rank: min(m, p),
    "dualpipe_v": lambda p, m, rank: p + 0.5,
    "hanayo": lambda p, m, rank: (p + rank + 1) / 2,
    # Li and Hoefler 2021, arXiv 2107.06925, table 2: p / 2 + 1 at the ends to p in the middle
    "chimera": lambda p, m, rank: p / 2 + 1 + min(rank, p - 1 - rank),
}


@every_size
@pytest.mark.parametrize("name", BUBBLES)
def test_bubble(name: str, p: int, m: int) -> None:
    for times in TIMES:
        assert run(make(name, p, m), m, *times).bubble == exactly(BUBBLES[name](p, m, *times), abs=1e-9)


@every_size
@pytest.mark.parametrize("v", [1, 2, 4])
@pytest.mark.parametrize("name", BUBBLES_OVER_V)
def test_stages_divide_the_bubble(name: str, v: int, p: int, m: int) -> None:
    """Also where p does not divide m: rounds of unequal length lose nothing."""
    for times in TIMES:
        assert run(make(name, p, m, v), m, *times).bubble == exactly(BUBBLES_OVER_V[name](p, m, *times) / v, abs=1e-9)


@even_size
@pytest.mark.parametrize("name", WINDOWS)
def test_window(name: str, p: int, m: int) -> None:
    for times in TIMES:
        assert max(run(make(name, p, m), m, *times).windows) == exactly(WINDOWS[name](p, m, *times), abs=1e-9)


@pytest.mark.parametrize("p", [2, 3, 4])
def test_what_the_zero_bubble_forms_ask_for(p: int) -> None:
    """All times of 1 to 4: the forms hold from the stated m on and not below, the papers' as stated."""
    grid = list(product(range(1, 5), repeat=3))
    for name, v, enough in (("zb_h1", 1, p), ("interleaved_zero_bubble", 2, p), ("zb_h2", 1, 2 * p - 1)):
        form = (BUBBLES | BUBBLES_OVER_V)[name]

        def holds(m: int, name: str = name, v: int = v, form: Form = form) -> bool:
            found = [run(make(name, p, m, v), m, *times).bubble for times in grid]
            return found == exactly([form(p, m, *times) / v for times in grid], abs=1e-9)

        assert [m for m in range(1, enough + p + 2) if holds(m)] == list(range(enough, enough + p + 2))
    for f, i, w in grid:
        assert (BUBBLES["zb_h1"](p, 0, f, i, w) == (p - 1) * (f + i - w)) == (w <= f and w <= i)
        assert (WINDOWS["zb_h2"](p, 0, f, i, w) == (p - 1) * (f + i - 2 * w)) == (w <= f and 2 * w <= f + i)


@even_size
@pytest.mark.parametrize("name", PEAKS)
def test_peak(name: str, p: int, m: int) -> None:
    expected = [PEAKS[name](p, m, rank) for rank in range(p)]
    assert run(make(name, p, m), m, 1, 1, 1).peaks == exactly(expected, abs=1e-9)


@even_size
@pytest.mark.parametrize("v", [2, 4])
def test_interleaved_peak(v: int, p: int, m: int) -> None:
    """Korthikanti et al. 2022, arXiv 2205.05198: p (1 + (p - 1) / (p v)) on rank 0."""
    peaks = run(make("interleaved_1f1b", p, m, v), m, 1, 1, 1).peaks
    assert peaks == exactly([(2 * (p - 1 - rank) + (v - 1) * p + 1) / v for rank in range(p)], abs=1e-9)


@pytest.mark.parametrize("v", [2, 3])
@pytest.mark.parametrize("p", [2, 3, 4, 5])
def test_interleaved_zero_bubble_peak(p: int, v: int) -> None:
    """Rounds of m / floor(m / p), rounded up, are as long as p only if p divides m."""
    for m in range(1, 3 * p + 1):
        longest = ceil(m / max(1, m // p))
        expected = p + (longest - p) * (v - 1) / v if m >= p else m
        assert run(make("interleaved_zero_bubble", p, m, v), m, 1, 1, 1).peaks == exactly([expected] * p, abs=1e-9)


@even_size
def test_zbv(p: int, m: int) -> None:
    """Qi et al. 2023, arXiv 2401.10241, section 6: no bubble in the window if F = I = W."""
    same = run(make("zbv", p, m), m, 1, 1, 1)
    assert (same.bubble, max(same.windows)) == exactly(((p - 1) / 2, 0), abs=1e-9)
    assert run(make("zbv", p, m), m, 1, 1.3, 0.7).bubble == exactly((p - 1) * 1.3 / 2, abs=1e-9)


@pytest.mark.parametrize(("p", "window"), [(4, 1.8), (8, 4.2)])
def test_zbv_window(p: int, window: float) -> None:
    """Not a closed form: what the sail-sg code gives for these times."""
    assert max(run(make("zbv", p, 4 * p), 4 * p, 1, 1.3, 0.7).windows) == exactly(window, abs=1e-9)


@pytest.mark.parametrize("p", range(3, 17))
def test_controllable_memory(p: int) -> None:
    """Qi et al. 2024, arXiv 2405.15362: a half and a third of 1F1B's p micro-batches, plus a constant.

    Of its bubble 3 (p - 1) a half and two thirds if F = I = W, less a constant, however many micro-batches there are.
    """
    for m in (p, 2 * p, 4 * p + 1):
        half, least = (run(make(name, p, m), m, 1, 1, 1) for name in ("v_half", "v_min"))
        assert half.bubble == exactly((3 * p - (4 if p % 2 else 5)) / 2, abs=1e-9)
        assert least.bubble == exactly((4 * p - 5) / 2, abs=1e-9)
        assert max(half.peaks) == min(m, p // 2 + 1)
        assert max(least.peaks) == min(m, (p + 1) // 3 + 1)


@pytest.mark.parametrize("times", [(1, 1, 1), (1, 1.3, 0.7)])
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_dualpipe_v(p: int, m: int, times: tuple[float, float, float]) -> None:
    """DeepSeek's (p - 1) (F&B + B - 3 W) per stage, if a pair takes F&B = F + B and is one action.

    Beside each other instead of as one, the forward's output can leave before the backward is done.
    """
    f, i, w = times
    schedule = make("dualpipe_v", p, m)
    published = (p - 1) * (f + 2 * (i + w) - 3 * w) / 2
    assert run(schedule, m, *times, pairs_are_one=True).bubble == exactly(published, abs=1e-9)
    assert run(schedule, m, *times).bubble < published
    assert run(schedule, m, 1, 1, 1).bubble == exactly((p - 1) / 2, abs=1e-9)


@pytest.mark.parametrize("units", [1, 2, 4])
@pytest.mark.parametrize("p", [2, 4, 6, 8])
def test_chimera(p: int, units: int) -> None:
    """Li and Hoefler 2021, arXiv 2107.06925: one unit has a bubble of p - 2 if F = B = 1, 2 (p - 2) if B = 2 F.

    Between units nothing is lost if F = B; else (p - 2) |B - F| each time.
    """
    for times in TIMES:
        forward, backward = times[0], times[1] + times[2]
        expected = (p - 2) * (max(forward, backward) + (units - 1) * abs(backward - forward))
        assert run(make("chimera", p, units * p), units * p, *times).bubble == exactly(expected, abs=1e-9)


@pytest.mark.parametrize("units", [1, 2, 4])
@pytest.mark.parametrize("waves", [1, 2, 4])
@pytest.mark.parametrize("p", [2, 4, 8])
def test_hanayo(p: int, waves: int, units: int) -> None:
    """As Chimera of 2 w p stages: exact for this order, which is Chimera's folded."""
    for times in TIMES:
        forward, backward = times[0], times[1] + times[2]
        expected = (p - 1) / waves * (max(forward, backward) + (units - 1) * abs(backward - forward))
        assert run(make("hanayo", p, units * p, 2 * waves), units * p, *times).bubble == exactly(expected, abs=1e-9)


@pytest.mark.parametrize("waves", [1, 2, 4])
@pytest.mark.parametrize("p", [4, 8])
def test_hanayo_published(p: int, waves: int) -> None:
    """Liu et al. 2023, arXiv 2308.15762: (2 p - 2) / (3 p w + p - 1) for B = 2 F, m = p; an approximation."""
    bubble = run(make("hanayo", p, p, 2 * waves), p, 1, 1, 1).bubble
    assert bubble / (bubble + 3 * p) == pytest.approx((2 * p - 2) / (3 * p * waves + p - 1), abs=0.1 / waves)
