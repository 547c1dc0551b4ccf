"""``plancast schedules``, the grid, and schedules from a file."""

from __future__ import annotations

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
    assert "always 2 a rank: zbv, dualpipe_v" in table
    assert "always" not in run(capsys, "schedules")[1]
    assert run(capsys, "schedules", "--activation-limit", "0.5")[0] != 0


def test_grid_and_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "grid.svg"
    inputs = ["--model", "gpt-tiny", "--topology", "local-cpu", "--plan", "pp2", "--set", "plan.schedule=zb_h1"]
    code, out, _ = run(capsys, "program", "show", *inputs, "--grid", "-o", str(picture))
    assert code == 0
    assert "rank 0" in out and "rank 1" in out
    root = ElementTree.parse(picture).getroot()
    rectangles = [each for each in root.iter() if each.tag.endswith("rect")]
    # Background, then F, I and W of 8 micro-batches and an update on each of two ranks.
    assert len(rectangles) == 1 + 2 * (3 * 8 + 1)


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
