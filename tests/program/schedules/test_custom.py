"""Schedules read from text."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from simulator.errors import InputError
from simulator.program.schedules import SCHEDULES, Options, Schedule
from tests.program.schedules.making import LISTED, make

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = ["0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"]


def read(rows: Iterable[str], p: int = 2, m: int = 2, path: str = "") -> Schedule:
    return SCHEDULES["custom"].build(p, m, Options(text="\n".join(rows), path=path))


def errors(rows: Iterable[str], p: int = 2, m: int = 2) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(rows, p, m, path="mine.csv")
    return [str(diagnostic) for diagnostic in caught.value.diagnostics]


@pytest.mark.parametrize("name", [name for name in LISTED if name != "chimera"])
def test_reads_what_is_written(name: str) -> None:
    assert read((GOLDEN / f"{name}.txt").read_text().splitlines(), 4, 8) == make(name, 4, 8)


def test_torch_csv() -> None:
    """Empty cells are idle slots; a pair of F and B is one cell."""
    schedule = read(["0F0,0F1,,,0B0,0B1\r", ",1F0,1B0,(1F1;1B1)OVERLAP_F_B\r", ""])
    assert [" ".join(map(str, order)) for order in schedule.orders] == ["0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1"]
    assert schedule.placement == (0, 1)


def test_stages_may_stand_anywhere() -> None:
    assert read(["1F0 1B0 1F1 1B1", "0F0 0F1 0B0 0B1"]).placement == (1, 0)


@pytest.mark.parametrize(
    "cell", ["1SEND_F0", "0UNSHARD", "1RECV_B0", "0REDUCE_GRAD", "1F", "F0", "1F0.0", "1X0", "()", "(1F0"]
)
def test_cells_that_are_no_actions(cell: str) -> None:
    (error,) = errors([f"0F0,0F1,{cell}", SMALL[1]])
    assert error == (
        f'mine.csv:1:9: "{cell}" is not an F, B, I or W of a stage and a micro-batch; '
        "write e.g. 2F0, 2B0, 2I0, 2W0; sends, receives and the rest are added from the plan"
    )


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (SMALL[:1], "mine.csv: has 1 row, but pp is 2; write one row of actions per pipeline rank"),
        ([], "mine.csv: has 0 rows, but pp is 2; write one row of actions per pipeline rank"),
        (["", SMALL[1]], "mine.csv: row 1 has no actions; give rank 0 a stage"),
        (["0F0 0F1 0B0", SMALL[1]], "mine.csv: 0B1 is missing; every forward needs its B, or I and W"),
        (["0F0 0B0", SMALL[1]], "mine.csv: 0F1 is missing; every stage takes every micro-batch forward"),
        (["0F0 0F1 0B0 0I1", SMALL[1]], "mine.csv: 0W1 is missing; every I needs its W"),
        (
            [SMALL[0], SMALL[1].replace("1F", "2F").replace("1B", "2B")],
            "mine.csv: stage 1 is missing; stages are numbered from 0; the last is 2",
        ),
        (["0F0 0F1 0B0 0B1 0B1", SMALL[1]], "mine.csv:1:17: 0B1 comes twice; remove one"),
        (["0F0 0F1 0B0 0B1 0I1", SMALL[1]], "mine.csv:1:17: 0I1 comes beside 0B1; a backward is B, or I and W"),
        (["0F0 0B1 0F1 0B0", SMALL[1]], "mine.csv:1:5: 0B1 comes without 0F1 before it; put 0F1 before it in the row"),
        (
            [SMALL[0], SMALL[1] + " 0W0"],
            "mine.csv:2:17: 0W0 is in the row of rank 1, but stage 0 in that of rank 0; keep a stage in one row",
        ),
        (
            [SMALL[0] + " 0F2", SMALL[1]],
            "mine.csv:1:17: 0F2 is of micro-batch 2; num_microbatches is 2: use 0 to 1",
        ),
    ],
)
def test_what_is_no_step(rows: list[str], error: str) -> None:
    assert errors(rows)[0] == error


def test_all_errors_at_once() -> None:
    places = [error.partition(": ")[0] for error in errors(["0F0 0F0 hello 0F7", "1B0 1F0"])]
    assert places == ["mine.csv:1:5", "mine.csv:1:9", "mine.csv:1:15", "mine.csv:2:1"]


def test_ranks_that_wait_for_each_other() -> None:
    """Rank 0 wants a gradient before it goes on; rank 1 wants all inputs before it gives one."""
    assert errors(["0F0,,0B0,0F1,0B1", ",1F0,1F1,1B0,1B1"]) == [
        "mine.csv:1:6: 0B0 waits for 1B0, which stands behind 1F1 in the row of rank 1: a deadlock; swap the two",
        "mine.csv:2:6: 1F1 waits for 0F1, which stands behind 0B0 in the row of rank 0: a deadlock; swap the two",
    ]


def test_neighbours_in_different_orders() -> None:
    assert errors(["0F0 0F1 0B0 0B1", "1F1 1F0 1B0 1B1"]) == [
        "mine.csv:2:1: 1F1 is out of turn: stage 1 takes micro-batch 1 forward before 0, but stage 0 on rank 0 takes 0 "
        "before 1; messages cannot overtake"
    ]


def test_stages_of_one_rank_in_the_wrong_order() -> None:
    """The place is that of the second action in a pair's cell."""
    assert errors(["0F0 0I0 0W0", "(2F0;1F0)OVERLAP_F_B 2B0 1B0"], m=1) == [
        "mine.csv:2:1: 2F0 waits for 1F0, which comes later in its row: a deadlock; swap the two"
    ]
    assert errors(["0F0 0B0", "1F0 (2F0;1B0)OVERLAP_F_B 2B0"], m=1) == [
        "mine.csv:2:5: 1B0 waits for 2B0, which comes later in its row: a deadlock; swap the two"
    ]
