"""`plancast sweep`: every point has a row, the fastest first, the impossible last with its reason."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from simulator.errors import InputError
from simulator.planning.sweep import grid

Run = Callable[..., Any]
DGX = ["--model", "gpt-tiny", "--topology", "dgx-a100", "--plan", "single"]
OVER = ["--over", "plan.tp=1,2,3", "--over", "topology.nodes=1,2"]


def test_the_grid_is_every_combination() -> None:
    assert grid(["a.b=1,2", "a.c=x"]) == [{"a.b": "1", "a.c": "x"}, {"a.b": "2", "a.c": "x"}]
    assert grid(["plan.axes=[pp,dp,tp],[dp,pp,tp]"]) == [{"plan.axes": "[pp,dp,tp]"}, {"plan.axes": "[dp,pp,tp]"}]


@pytest.mark.parametrize("over", [["plan.tp"], ["tp=1,2"], ["plan.tp=1,,2"], ["plan.tp=1", "plan.tp=2"]])
def test_what_is_no_grid_is_refused(over: list[str]) -> None:
    with pytest.raises(InputError):
        grid(over)


def test_a_grid_out_of_all_proportion_is_refused() -> None:
    values = ",".join(map(str, range(1000)))
    with pytest.raises(InputError, match="1000000 points are more than"):
        grid([f"plan.tp={values}", f"plan.pp={values}"])


def test_points_are_sorted_and_the_illegal_ones_say_why(run: Run) -> None:
    done = run("sweep", *DGX, *OVER, "--format", "json")
    points = json.loads(done.out)
    times = [point["result"]["step_time_s"] for point in points[:4]]
    assert done.code == 0
    assert times == sorted(times)
    assert [point["result"] for point in points[4:]] == [None, None]
    assert all("3 does not divide" in point["reason"] for point in points[4:])


def test_what_does_not_fit_comes_after_what_does(run: Run) -> None:
    over = ["--over", "topology.devices.A100-SXM-80GB.memory=80 GiB,1 MiB"]
    points = json.loads(run("sweep", *DGX, *over, "--format", "json").out)
    assert points[0]["reason"] == ""
    assert points[1]["reason"].startswith("does not fit: ")
    assert points[1]["result"]["step_time_s"] > 0


def test_no_point_at_all_gives_exit_code_1(run: Run) -> None:
    assert run("sweep", *DGX, "--over", "plan.tp=3,5").code == 1


def test_processes_change_nothing(run: Run) -> None:
    alone, together = (run("sweep", *DGX, *OVER, "--format", "csv", "--jobs", jobs).out for jobs in (1, 2))
    assert alone == together
    assert [row["plan.tp"] for row in csv.DictReader(io.StringIO(alone))][-2:] == ["3", "3"]


def test_the_table_is_complete(run: Run) -> None:
    out = run("sweep", *DGX, *OVER).out
    assert "…" not in out
    assert "step time" in out
    assert "does not divide" in out


def test_wrong_bases_are_refused(run: Run) -> None:
    done = run("sweep", "--model", "nope", "--topology", "neither", "--plan", "single", *OVER)
    assert done.code == 2
    assert "2 errors" in done.err
