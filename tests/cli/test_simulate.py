"""`plancast simulate` and `plancast check`: keys, formats, verdicts and exit codes."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
BIG = ["--model", "gpt3-175b", "--topology", "dgx-a100", "--plan", "single", "--set", "plan.dtype=bf16"]


@pytest.mark.parametrize("plan", ["single", "dp2", "tp2", "pp2"])
def test_json_has_every_key_that_scripts_rely_on(run: Run, tiny: list[str], issue_keys: set[str], plan: str) -> None:
    settings = ["--set", "topology.node.count=1"] if plan == "single" else []
    result = json.loads(run("simulate", *tiny, plan, *settings, "--format", "json").out)
    assert issue_keys <= result.keys()
    assert result["tokens_per_second"] == pytest.approx(128 * result["samples_per_second"])
    assert [rank["rank"] for rank in result["per_rank"]] == list(range(result["world_size"]))
    assert result["speed_of_light_s"] <= result["step_time_s"] <= result["serial_s"] * (1 + 1e-9)
    assert sum(result["memory"].values()) == result["peak_memory_bytes"]


def test_samples_alone_where_a_model_has_no_tokens(run: Run) -> None:
    done = run("simulate", "--model", "cnn-tiny", "--topology", "local-cpu", "--plan", "dp2", "--format", "json")
    result = json.loads(done.out)
    assert "tokens_per_second" not in result
    assert result["samples_per_second"] == pytest.approx(result["global_batch_size"] / result["step_time_s"])


def test_a_smaller_batch_gives_more_updates(run: Run, tiny: list[str]) -> None:
    named = [*tiny, "dp2", "--set", "plan.dataset_size=1000", "--set", "plan.epochs=3", "--format", "json"]
    large, small = (
        json.loads(run("simulate", *named, "--set", f"plan.num_microbatches={number}").out) for number in (2, 1)
    )
    assert (large["steps_per_epoch"], large["updates"]) == (32, 96)  # ceil(1000 / (2 * 2 * 8)), three times
    assert (small["steps_per_epoch"], small["updates"]) == (63, 189)


def test_csv_is_a_header_and_one_row(run: Run, tiny: list[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run("simulate", *tiny, "pp2", "--format", "csv").out)))
    assert len(rows) == 1
    assert float(rows[0]["step_time_s"]) > 0
    assert float(rows[0]["memory_activations_bytes"]) > 0


def test_the_table_says_everything_in_a_pipe(run: Run, tiny: list[str]) -> None:
    out = run("simulate", *tiny, "pp2").out
    assert "…" not in out
    for expected in (
        "step time",
        "exposed communication",
        "bubble",
        "MFU / HFU",
        "fits: ",
        "roofline",
        "pp2 x dp1 x tp1",
    ):
        assert expected in out


def test_folding_changes_nothing(run: Run, tiny: list[str]) -> None:
    folded, whole = (
        json.loads(run("simulate", *tiny, "dp2", *extra, "--format", "json").out) for extra in ([], ["--fold", "off"])
    )
    assert (folded["basis"]["rank_classes"], whole["basis"]["rank_classes"]) == (1, 2)
    assert folded["step_time_s"] == pytest.approx(whole["step_time_s"], rel=1e-9)


def test_what_does_not_fit_is_a_result_with_exit_code_1(run: Run) -> None:
    done = run("simulate", *BIG, "--format", "json")
    result = json.loads(done.out)
    assert done.code == 1
    assert not result["fits"]
    assert result["step_time_s"] > 0


def test_check_names_what_overflows_and_a_change_that_helps(run: Run, tiny: list[str]) -> None:
    short = ["--set", "topology.devices.cpu-core.memory=120 MiB"]
    done = run("check", *tiny, "dp2", *short)
    assert done.code == 1
    assert "DOES NOT FIT" in done.out
    assert "largest term: activations" in done.out
    assert "it fits with --set plan.microbatch_size=4 --set plan.num_microbatches=4" in done.out
    helped = run("check", *tiny, "dp2", *short, "--set", "plan.microbatch_size=4", "--set", "plan.num_microbatches=4")
    assert helped.code == 0


def test_check_says_when_nothing_small_helps(run: Run) -> None:
    done = run("check", *BIG, "--set", "topology.devices.A100-SXM-80GB.memory=1 MiB")
    assert done.code == 1
    assert "no single small change" in done.out


def test_check_of_a_sound_plan(run: Run, tiny: list[str]) -> None:
    done = run("check", *tiny, "pp2")
    assert done.code == 0
    assert "legal and deadlock-free" in done.out
    body = json.loads(run("check", *tiny, "pp2", "--format", "json").out)
    assert body["fits"]
    assert body["deadlock_free"]


def test_trace_nests_and_names_its_tracks(run: Run, tiny: list[str], tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    assert run("simulate", *tiny, "pp2", "--trace", path).code == 0
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert {e["args"]["name"] for e in events if e["name"] == "process_name"} == {
        "predicted rank 0",
        "predicted rank 1",
    }
    tracks: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in events:
        if event["ph"] == "X":
            tracks.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    assert len(tracks) == 2 * 4  # rank 0 computes, sends forward, receives backward, meets rank 1, and the other way
    for slices in tracks.values():
        slices.sort()
        assert all(end <= start + 1e-6 for (_, end), (start, _) in pairwise(slices))


def test_the_curve_peaks_where_the_memory_says(run: Run, tiny: list[str]) -> None:
    done = run("simulate", *tiny, "pp2", "--format", "json")
    result = json.loads(done.out)
    assert result["peak_activation_bytes"] == max(rank["peak_activation_bytes"] for rank in result["per_rank"])
    assert result["peak_activation_bytes"] == result["memory"]["activations"] > 0
    assert "peak activations" in run("simulate", *tiny, "pp2").out
