"""``plancast schedules``, the grid, and schedules from a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from simulator.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


def test_the_table_in_three_formats(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "schedules", "--pp", "4", "--format", "json")
    assert code == 0
    assert {"naive", "gpipe", "1f1b", "zbv", "chimera"} <= {row["name"] for row in json.loads(out)}
    assert run(capsys, "schedules", "--format", "csv")[1].startswith("name,")
    assert "zb_h1" in run(capsys, "schedules")[1]
    assert run(capsys, "schedules", "--pp", "0")[0] != 0


def test_the_table_says_what_each_schedule_is(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "schedules", "--pp", "4", "-m", "8", "--format", "json")
    assert all(row["description"] for row in json.loads(out))
    table = run(capsys, "schedules", "-v", "1", "--activation-limit", "2")[1]
    assert "GPipe's bubble with at most p micro-batches" in table
    assert "always 2 a rank: zbv, v_half, v_min, dualpipe_v" in table
    assert "always" not in run(capsys, "schedules")[1]
    assert run(capsys, "schedules", "--activation-limit", "0.5")[0] != 0


def test_what_does_not_exist_has_no_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """A zero would sort a schedule that cannot be first."""
    asked = ("schedules", "--pp", "3", "-m", "5", "--format")
    figures = ("bubble_fraction", "device_window_bubble", "peak_microbatches", "messages")
    absent = {row["name"]: row for row in json.loads(run(capsys, *asked, "json")[1]) if row["problem"]}
    assert absent.keys() == {"chimera", "dualpipe_v"}
    assert all(row[figure] is None for row in absent.values() for figure in figures)
    for row in csv.DictReader(run(capsys, *asked, "csv")[1].splitlines()):
        assert all((row[figure] == "") == (row["name"] in absent) for figure in figures), row


def test_grid_and_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "grid.svg"
    inputs = ["--model", "gpt-tiny", "--topology", "local-cpu", "--plan", "pp2", "--set", "plan.schedule=zb_h1"]
    code, out, _ = run(capsys, "program", "show", *inputs, "--grid", "-o", str(picture))
    assert code == 0
    assert "rank 0" in out and "rank 1" in out
    # Background, F, I and W of 8 micro-batches and an update on each of two ranks, the legend of these four.
    assert len(elements(picture, "rect")) == 1 + 2 * (3 * 8 + 1) + 4
    assert {"rank 0", "rank 1", "W", "weight gradients", "OPTIM"} <= {each.text for each in elements(picture, "text")}


def elements(picture: Path, tag: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.parse(picture).getroot().iter() if each.tag.endswith(tag)]


def test_a_row_of_the_grid_names_all_its_ranks_and_tells_its_stages_apart(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "grid.svg"
    settings = ["topology.node.count=8", "plan.pp=2", "plan.dp=4", "plan.schedule=zbv", "plan.axes=[dp, pp, tp]"]
    changes = [word for setting in settings for word in ("--set", setting)]
    code, out, _ = run(capsys, "program", "show", *TINY, "pp2", *changes, "--grid", "-o", str(picture))
    assert code == 0 and "ranks 0, 2, ... (4) " in out and "the 2 stages of a rank" in out
    fills = {
        (each[0].text or "").partition(":")[0]: each.get("fill") for each in elements(picture, "rect") if len(each)
    }
    assert fills["0F0"] == fills["1F1"] != fills["3F0"] == fills["2F1"], "stages 0 and 3 are on rank 0, 1 and 2 on 1"
    assert {"ranks 0, 2, ... (4)"} < {each.text for each in elements(picture, "text")}
    assert "ranks 0, 2, 4, 6" in {each.text for each in elements(picture, "title")}


def test_a_grid_is_never_written_under_a_wrong_name_or_of_another_plan(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(capsys, "program", "show", *TINY, "pp2", "--grid", "-o", str(tmp_path / "grid.png"))
    assert code == 2 and "pictures are SVG; write grid.svg" in err
    assert list(tmp_path.iterdir()) == []
    recording = tmp_path / "predicted.json"
    assert run(capsys, "simulate", *TINY, "pp2", "-o", str(recording))[0] == 0
    assert run(capsys, "program", "show", *TINY, "pp2", "--recording", str(recording))[0] == 0
    for wrong, reason in {
        ("single", "topology.node.count=1"): "is of 2 ranks, but the plan has 1",
        ("pp2", "topology.node.count=4"): "is of 2 ranks, but the plan has 4",
        ("dp2", "plan.dp=2"): "has 2 stages, but the plan has 1",
        ("pp2", "plan.num_microbatches=7"): "rank 0 ran 0B7.0, which the plan does not have there",
        ("pp2", "plan.num_microbatches=9"): "rank 0 did not run 0B8.0, which the plan has there",
        ("pp2", "plan.schedule=zbv"): "has 2 stages, but the plan has 4",
    }.items():
        plan, change = wrong
        code, _, err = run(capsys, "program", "show", *TINY, plan, "--set", change, "--recording", str(recording))
        assert code == 2
        assert err.startswith(f"{recording}: {reason}; name the model, topology, plan and --set")


ROWS = "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n"
TINY = ["--model", "gpt-tiny", "--topology", "local-cpu", "--plan"]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan that names a file beside it."""
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / "rows.csv").write_text(ROWS)
    path = folder / "mine.yaml"
    path.write_text("name: mine\npp: 2\nschedule: custom\nschedule_file: rows.csv\nnum_microbatches: 2\n")
    return path


def test_a_plan_names_its_rows_from_its_own_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Path
) -> None:
    recording = tmp_path / "predicted.json"
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "simulate", *TINY, "plans/mine.yaml", "-o", str(recording))[0] == 0
    monkeypatch.chdir(plan.parent)
    assert run(capsys, "simulate", *TINY, "mine.yaml")[0] == 0
    # A recording names the file whole, so that it can be compiled again from anywhere.
    code, out, _ = run(capsys, "compare", str(recording), str(recording))
    assert code == 0 and "in the order of the plan" in out
    moved = plan.with_name("rows.csv").rename(plan.with_name("moved.csv"))
    code, _, err = run(capsys, "compare", str(recording), str(recording))
    assert code == 2 and err.startswith(f"{recording}: plan.schedule_file: {plan.with_name('rows.csv')} cannot be read")
    moved.rename(plan.with_name("rows.csv"))
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "simulate", *TINY, "plans/mine.yaml", "--set", "plan.schedule_file=rows.csv")
    assert code == 2
    assert err.splitlines()[0] == (
        "--set plan.schedule_file=rows.csv: plan.schedule_file: rows.csv cannot be read: no such file or directory; "
        "a plan file names it from its own folder, --set from the working directory"
    )
    (tmp_path / "rows.csv").write_text(ROWS)
    assert run(capsys, "simulate", *TINY, "plans/mine.yaml", "--set", "plan.schedule_file=rows.csv")[0] == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "0F0 2F0 2B0 0B0\n1F0 1B0",
            "plan.schedule_file: {} has 3 stages, which pp(2) does not divide (remainder 1); "
            "legal neighbour: 2 or 4 stages",
        ),
        (
            "0F0 2F0 2B0 0B0\n1F0 3F0 3B0 1B0",
            "plan.num_stages_per_rank: pp(2) * num_stages_per_rank(1) = 2 stages, but {} has 4; "
            "set num_stages_per_rank: 2",
        ),
    ],
)
def test_a_file_with_other_stages_than_the_plan(
    capsys: pytest.CaptureFixture[str], plan: Path, rows: str, message: str
) -> None:
    file = plan.with_name("rows.csv")
    file.write_text(rows)
    code, _, err = run(capsys, "simulate", *TINY, str(plan), "--set", "plan.num_microbatches=1")
    assert code == 2
    assert message.format(file) in err


@pytest.mark.parametrize("kind", ["folder", "device", "large"])
def test_actions_are_read_from_a_file_of_bounded_size(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    """A device never ends, and what is larger than memory is not read to find out."""
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    path = {"folder": tmp_path, "device": Path("/dev/zero"), "large": large}[kind]
    code, _, err = run(
        capsys, "simulate", *TINY, "pp2", "--set", "plan.schedule=custom", "--set", f"plan.schedule_file={path}"
    )
    assert code == 2
    assert err.startswith(
        f"--set plan.schedule_file={path}: plan.schedule_file: {path} is no file of at most 64 MiB; a plan file names"
    )


def test_a_step_of_more_forward_passes_than_memory_holds_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """2**20 forward passes: with two stages, half as many micro-batches are the most."""
    code, _, err = run(capsys, "simulate", *TINY, "pp2", "--set", "plan.num_microbatches=524289")
    assert code == 2
    assert err.startswith(
        "--set plan.num_microbatches=524289: plan.num_microbatches: 524289 micro-batches through 2 stages are "
        "1,048,578 forward passes, more than the 1,048,576 there may be; at most 524288; larger micro-batches"
    )


def test_a_schedule_from_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = tmp_path / "mine.csv"
    rows.write_text("0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n")
    settings = ["plan.schedule=custom", f"plan.schedule_file={rows}", "plan.num_microbatches=2"]
    inputs = ["--model", "gpt-tiny", "--topology", "local-cpu", "--plan", "pp2"]
    inputs += [word for setting in settings for word in ("--set", setting)]
    assert run(capsys, "simulate", *inputs)[0] == 0
    rows.write_text("0F0,0F1,0B0,0B1\n1F0,1B0,1F1\n")
    code, _, err = run(capsys, "simulate", *inputs)
    assert code == 2 and "1B1" in err
    code, _, err = run(capsys, "simulate", *inputs[:-4])
    assert code == 2 and "schedule_file" in err
