"""The verb `collective`."""

import csv
import io
import json

import pytest

from tests.cli.conftest import Run

H100 = ("collective", "--topology", "dgx-h100", "--op", "all_reduce")


def test_one_size(run: Run) -> None:
    done = json.loads(run(*H100, "--size", "256MiB", "--format", "json").out)
    rows = done["rows"]
    assert (done["topology"], done["operation"], done["ranks"]) == ("dgx-h100", "all_reduce", list(range(8)))
    assert {"ring", "tree", "halving_doubling", "direct"} <= {row["algorithm"] for row in rows}
    assert sum(row["chosen"] for row in rows) == 1
    for row in rows:
        assert row["algbw"] == pytest.approx(256 * 2**20 / row["seconds"])
        assert row["busbw"] == pytest.approx(row["algbw"] * 14 / 8)


def test_a_sweep_is_a_table(run: Run) -> None:
    out = run(*H100, "--size", "1MiB", "--sweep", "--ranks", "0-3").out
    for shown in ["all_reduce on 4 ranks of dgx-h100", "1 KiB", "256 KiB", "1 MiB", "busbw", "ring"]:
        assert shown in out
    rows = list(csv.DictReader(io.StringIO(run(*H100, "--algorithm", "ring", "--format", "csv").out)))
    assert [float(row["size"]) for row in rows] == [4.0**power * 1024 for power in range(11)]


def test_what_the_library_has_comes_before_bounds(run: Run) -> None:
    rows = json.loads(run(*H100, "--size", "1MiB", "--format", "json").out)["rows"]
    bare = [row["protocol"] == "bare" for row in rows]
    assert bare == sorted(bare)
    assert {True, False} == set(bare)
    assert rows[0]["chosen"]


def test_only_what_is_chosen(run: Run) -> None:
    rows = json.loads(run(*H100, "--sweep", "--size", "1MiB", "--chosen", "--format", "json").out)["rows"]
    assert [row["size"] for row in rows] == [4.0**power * 1024 for power in range(6)]
    assert all(row["chosen"] for row in rows)


def test_ranks_of_several_nodes(run: Run) -> None:
    nodes = ("--set", "topology.nodes=2", "--size", "1MiB", "--format", "json")
    assert json.loads(run(*H100, *nodes, "--ranks", "0,4-5,8").out)["ranks"] == [0, 4, 5, 8]
    assert json.loads(run(*H100, *nodes, "--ranks", "1-15:8").out)["ranks"] == [1, 9]
    names = {row["algorithm"] for row in json.loads(run(*H100, *nodes).out)["rows"]}
    assert "hierarchical" in names


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--op", "all_redcue"), '--op all_redcue: "all_redcue" is no operation; did you mean all_reduce?'),
        (("--op", "send"), "--ranks: send joins two ranks, not 8"),
        (("--size", "256"), "has no unit"),
        (("--size", "0 B"), "less than a byte"),
        (("--ranks", "0-8"), "ranks 0 to 7 of dgx-h100"),
        (("--ranks", "a"), "neither a rank nor a range"),
        (("--ranks", "0-7:0"), "a step of 0 goes nowhere"),
        (("--ranks", "0,0"), "--ranks: a group has at least two different ranks"),
        (("--algorithm", "hierarchical"), '--algorithm hierarchical: "hierarchical" does no all_reduce here'),
        (("--topology", "dgx-h10"), "dgx-h100"),
    ],
)
def test_mistakes_are_named(run: Run, arguments: tuple[str, str], words: str) -> None:
    given = {"--topology": "dgx-h100", "--size": "1MiB", **{arguments[0]: arguments[1]}}
    done = run("collective", *(word for item in given.items() for word in item))
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_a_group_too_large_to_route_is_refused(run: Run) -> None:
    done = run(*H100, "--set", "topology.nodes=16385")
    assert done.code == 2
    assert "--ranks: 131,080 ranks are more than the 131,072 whose hops are routed; name fewer" in done.err
