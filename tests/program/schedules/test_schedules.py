"""What holds for every schedule."""

from pathlib import Path
from time import process_time

import pytest

from simulator.program import Kind
from simulator.program.schedules import SCHEDULES, Options
from simulator.program.schedules.one_step import verify_schedule
from tests.program.schedules.list_scheduler import run
from tests.program.schedules.making import LISTED, make, rows

GOLDEN = Path(__file__).parents[1] / "golden"

LIMIT = 6
"""Seconds of work; the goal of 2 s is for benchmarks/speed.py to show. A test must hold on a busy machine too."""


@pytest.mark.parametrize("name", LISTED)
def test_golden(name: str) -> None:
    """What p = 4 and m = 8 give, for people to read. A new schedule's file is written by hand, once looked at."""
    assert "\n".join(rows(make(name, 4, 8))) + "\n" == (GOLDEN / f"{name}.txt").read_text()


def test_golden_files_are_all_of_schedules() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(LISTED)


@pytest.mark.parametrize("p", range(1, 9))
@pytest.mark.parametrize("name", LISTED)
def test_every_order_is_one_step(name: str, p: int) -> None:
    """Each stage takes its micro-batches forward once and backward once, and no rank waits forever."""
    kind = SCHEDULES[name]
    for m in (*range(1, 12), 16, 19):
        for v in {"one": [1], "any": [1, 2, 3, 4], 2: [2]}[kind.stages_per_rank]:
            if kind.check(p, m, v):
                continue
            schedule = make(name, p, m, v)
            run(schedule, m, 1, 1, 1)
            depth, share = len(schedule.placement) // schedule.pipelines, m // schedule.pipelines
            assert depth == p * v
            forwards = [action for order in schedule.orders for action in order if action.kind is Kind.F]
            assert len(forwards) == len(set(forwards)) == depth * m
            assert all(action.microbatch // share == action.stage // depth for action in forwards)
            for first, others in ((Kind.F, {Kind.B, Kind.I}), (Kind.I, {Kind.W})):
                assert sorted(a[1:] for order in schedule.orders for a in order if a.kind is first) == sorted(
                    a[1:] for order in schedule.orders for a in order if a.kind in others
                )


@pytest.mark.parametrize("name", LISTED)
def test_placement_is_announced(name: str) -> None:
    kind = SCHEDULES[name]
    loop = tuple(range(4)) * kind.usual_stages_per_rank
    there_and_back = (0, 1, 2, 3, 3, 2, 1, 0)
    assert make(name, 4, 8).placement == {"loop": loop}.get(kind.placement, there_and_back)


def test_one_stage_per_rank_is_the_plain_schedule() -> None:
    assert make("interleaved_1f1b", 4, 8, 1) == make("1f1b", 4, 8)
    assert make("interleaved_zero_bubble", 4, 8, 1) == make("zb_h1", 4, 8)


def test_v_placement_of_more_than_one_wave() -> None:
    assert make("hanayo", 3, 3, 4).placement == (0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0)


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        (
            "1f1b",
            (4, 8, 2),
            "1f1b runs 1 stage per rank, not 2; use 1, or a schedule that takes several, as interleaved_1f1b",
        ),
        ("zbv", (4, 8, 1), "zbv runs 2 stages per rank, not 1; use 2"),
        ("chimera", (3, 8, 1), "chimera shares pp between two directions: 3 is not even; use pp 2 or 4"),
        (
            "chimera",
            (4, 1, 1),
            "chimera shares num_microbatches between two directions: 1 is not even; use num_microbatches 2",
        ),
        (
            "dualpipe_v",
            (4, 7, 2),
            "dualpipe_v needs num_microbatches >= 2 * pp = 8, not 7; use 8 micro-batches or pp 3",
        ),
        ("hanayo", (4, 8, 3), "hanayo goes there and back: num_stages_per_rank 3 is not even; use 2 or 4"),
    ],
)
def test_rules(name: str, numbers: tuple[int, int, int], message: str) -> None:
    problem = SCHEDULES[name].check(*numbers)
    assert problem is not None
    assert "; ".join(problem) == message


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_large_schedules_take_no_time(name: str) -> None:
    kind = SCHEDULES[name]
    options = Options(num_stages_per_rank=4 if kind.stages_per_rank == "any" else kind.usual_stages_per_rank)
    start = process_time()
    schedule = kind.build(64, 1024, options)
    made = process_time()
    verify_schedule(schedule, 1024)
    assert made - start < LIMIT
    assert process_time() - made < LIMIT


@pytest.mark.slow
def test_large_files_take_no_time() -> None:
    """Half a million actions read and verified."""
    text = "\n".join(rows(make("interleaved_1f1b", 64, 1024, 4)))
    start = process_time()
    SCHEDULES["custom"].build(64, 1024, Options(text=text))
    assert process_time() - start < LIMIT
