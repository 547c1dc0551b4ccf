"""The benchmark of accuracy: what it says of a few rows, and how it counts."""

import csv
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from simulator.planning import predict

MODULES = ("accuracy", "accuracy_goals", "accuracy_tables", "scatter", "sections")
ROW = {
    "source": "a paper",
    "hardware": "A100-SXM4-80GB",
    "gpus": "2",
    "framework": "PyTorch DDP",
    "model": "tiny",
    "arch": "gpt",
    "layers": "2",
    "hidden": "512",
    "heads": "8",
    "vocab": "1024",
    "seq_len": "512",
    "dtype": "bf16",
    "role": "test",
    "spec_level": "A",
}
ROWS = [
    ROW | {"id": "one", "micro_batch": "1", "global_batch": "2", "step_time_s": "0.01", "peak_mem_GB": "1"},
    ROW | {"id": "two", "micro_batch": "4", "global_batch": "8", "step_time_s": "0.02"},
    ROW | {"id": "three", "tp": "2", "micro_batch": "8", "global_batch": "8", "samples_per_s": "200"},
    ROW | {"id": "beads", "hardware": "abacus", "micro_batch": "1", "global_batch": "2", "step_time_s": "9"},
    ROW | {"id": "vague", "spec_level": "C", "micro_batch": "1", "global_batch": "2", "step_time_s": "1"},
    ROW | {"id": "timeless", "micro_batch": "1", "global_batch": "2"},
]


@pytest.fixture
def accuracy(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import accuracy

    yield accuracy
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def tables(accuracy: ModuleType) -> ModuleType:
    import accuracy_tables

    return accuracy_tables


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({key for row in ROWS for key in row}))
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def test_every_row_comes_back_predicted_or_with_its_reason(
    accuracy: ModuleType,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["accuracy.py", "--runs", str(table), "--jobs", "1", "--json", str(out), "--rows"])
    accuracy.main()
    entries = {each["id"]: each for each in json.loads(out.read_text())}
    assert list(entries) == [row["id"] for row in ROWS]
    done = [name for name, each in entries.items() if each["status"] == "ok"]
    assert done == ["one", "two", "three"]
    assert all(entries[name]["predicted_s"] > 0 for name in done)
    assert (entries["one"]["measured_s"], entries["three"]["measured_s"]) == (0.01, 0.04)
    assert entries["one"]["measured_peak_memory_bytes"] == 2**30
    assert "abacus" in entries["beads"]["reason"]
    assert "spec_level C" in entries["vague"]["reason"]
    assert "neither a time" in entries["timeless"]["reason"]
    assert set(entries["one"]) == {
        "id",
        "source",
        "hardware",
        "status",
        "reason",
        "predicted_s",
        "measured_s",
        "predicted_peak_memory_bytes",
        "measured_peak_memory_bytes",
    }
    printed = capsys.readouterr().out
    assert "3 of 6 rows predicted, 3 skipped" in printed
    assert "| a paper | 1 | " in printed


def test_rows_that_differ_in_plan_and_batch_alone_are_one_contest(accuracy: ModuleType, table: Path) -> None:
    rows = list(accuracy.read_rows(table))
    contests = {accuracy.evaluate(row).contest for row in rows[:3]}
    assert len(contests) == 1


def test_a_run_that_was_measured_twice_is_predicted_once(
    accuracy: ModuleType, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, *_ = accuracy.read_rows(table)
    again = replace(one, line=9, cells=one.cells | {"id": "again", "source": "another paper", "step_time_s": "0.03"})
    predicted: list[object] = []
    monkeypatch.setattr(accuracy, "predict", lambda inputs: predicted.append(inputs) or predict(inputs))
    first, other, second = accuracy.outcomes([one, two, again], 1)
    assert len(predicted) == 2
    assert first.predicted_s == second.predicted_s != other.predicted_s
    assert (second.id, second.source, second.measured_s) == ("again", "another paper", 0.03)


@pytest.mark.parametrize(
    ("ours", "theirs", "correlation"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1),
        ([1, 2, 3], [1, 3, 2], 0.5),  # 1 - 6 (0 + 1 + 1) / (3 x 8)
        ([1, 1, 2], [1, 1, 2], 1),
        ([1, 1, 1], [1, 2, 3], 0),
    ],
)
def test_ranks_are_compared_as_spearman_does(
    tables: ModuleType, ours: list[float], theirs: list[float], correlation: float
) -> None:
    assert tables.spearman(ours, theirs) == pytest.approx(correlation)


@pytest.fixture
def outcome(accuracy: ModuleType) -> Callable[..., Any]:
    """A row that took one second."""

    def build(source: str, predicted: float, **others: str) -> Any:
        fields = {"hardware": "", "framework": "", "model": "", "level": "", "role": "test", "scheme": "dp"} | others
        return accuracy.Outcome(
            id="", source=source, status="ok", predicted_s=predicted, measured_s=1.0, contest=(source,), **fields
        )

    return build


def test_errors_are_signed_and_counted_by_group(tables: ModuleType, outcome: Callable[..., Any]) -> None:
    text = tables.summary([outcome("a", 1.1), outcome("a", 0.8), outcome("b", 1.0)])
    assert "| all | 3 | 10.0% | 18.0% | -3.3% |" in text
    assert "| a | 2 | 15.0% | 19.0% | -5.0% |" in text
    assert "| b | 1 | 0.0% | 0.0% | +0.0% |" in text


def test_goals_say_what_is_missed(accuracy: ModuleType, outcome: Callable[..., Any]) -> None:
    from accuracy_goals import goals

    stated = {"hardware": "H100-SXM5-80GB", "level": "A"}
    rows = [outcome("a", 1.05, **stated), outcome("a", 1.06, role="calibration", **stated)]
    text = goals([*rows, outcome("a", 2.0, model="ResNet-50", **stated)])
    assert "transformers, level A | median \\|error\\| | 6% | 5.5% of 2 | 5.0% of 1 |" in text
    assert "transformers, level A | \\|bias\\| | 2% | 5.5% of 2 (missed) | 5.0% of 1 (missed) |" in text
    assert "| CNN | median \\|error\\| | 10% | 100.0% of 1 (missed) | 100.0% of 1 (missed) |" in text
    assert "| V100 | median \\|error\\| | 10% | no rows | no rows |" in text


def test_peers_stand_beside_the_same_rows(accuracy: ModuleType, outcome: Callable[..., Any]) -> None:
    from accuracy_goals import peers

    text = peers([outcome("Korthikanti 2022", 1.02), outcome("Korthikanti 2022", 0.94)])
    assert "| Calculon | mean abs error of step time | 3.65% of 8 | 8.87% | 4.0% of 2 | 6.0% |" in text
    assert text.count("not here") == len(text.splitlines()) - 3


def test_the_plot_has_a_dot_a_row_on_the_diagonal_where_both_agree(accuracy: ModuleType) -> None:
    from scatter import SIDE, scatter

    root = ElementTree.fromstring(scatter([("a & b", 0.1, 0.1), ("a & b", 10.0, 1.0), ("c", None, 1.0)], "x", "y"))
    dots = [each for each in root.iter("{http://www.w3.org/2000/svg}circle") if each.get("r") == "2.5"]
    places = [(float(str(each.get("cx"))), float(str(each.get("cy")))) for each in dots]
    # 0.1 to 10 are two decades: 0.1 is the lower left corner, (10, 1) half-way up the right border.
    assert places == [(70.0, SIDE), (70.0 + SIDE, SIDE / 2)]
