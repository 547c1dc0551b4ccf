"""Every verb that shows something also prints it as csv: a header, and flat rows."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.reports.measured import flat

Run = Callable[..., Any]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_check_is_one_row(run: Run, tiny: list[str]) -> None:
    done = run("check", *tiny, "pp2", "--format", "csv")
    (row,) = rows(done.out)
    body = json.loads(run("check", *tiny, "pp2", "--format", "json").out)
    assert (done.code, row["fits"], row["fits_with"]) == (0, "True", "")
    assert float(row["peak_memory_bytes"]) == body["peak_memory_bytes"]
    assert float(row["memory_params_bytes"]) == body["memory"]["params"]


def test_check_that_fails_names_the_remedy(run: Run, tiny: list[str]) -> None:
    done = run("check", *tiny, "dp2", "--set", "topology.devices.cpu-core.memory=130 MB", "--format", "csv")
    (row,) = rows(done.out)
    assert (done.code, row["fits"]) == (1, "False")
    assert row["fits_with"] == "plan.microbatch_size=4 plan.num_microbatches=4"


def test_a_remedy_keeps_tensor_parallelism_inside_a_node(run: Run) -> None:
    """With 7 MB a device tp 8 over two nodes of four devices would fit too, and comes before pp 4 in the list."""
    options = ["--model", "gpt-tiny", "--topology", "two-node-ethernet", "--plan", "single"]
    plan = ("tp=4", "pp=2", "dp=auto", "microbatch_size=1", "schedule=1f1b", "recompute=full", "vocab_parallel=false")
    changes = [f"plan.{change}" for change in (*plan, "optimizer.kind=sgd")]
    changes += ["topology.devices.A100-PCIe-80GB.memory=7 MB"]
    settings = [word for change in changes for word in ("--set", change)]
    (row,) = rows(run("check", *options, *settings, "--format", "csv").out)
    assert row["fits_with"] == "topology.nodes=4 plan.pp=4"
    over = [word for change in ("topology.nodes=4", "plan.tp=8") for word in ("--set", change)]
    assert run("check", *options, *settings, *over).code == 0


def test_topology_is_one_row_a_class_of_links(run: Run) -> None:
    found = rows(run("topology", "show", "dgx-a100", "--format", "csv").out)
    wanted = json.loads(run("topology", "show", "dgx-a100", "--format", "json").out)["links"]
    assert [float(row["bandwidth"]) for row in found] == [link["bandwidth"] for link in wanted]


def test_program_is_one_row_an_instruction(run: Run, tiny: list[str]) -> None:
    found = rows(run("program", "show", *tiny, "pp2", "--format", "csv").out)
    lists = json.loads(run("program", "show", *tiny, "pp2", "--format", "json").out)["pipeline_ranks"]
    assert [[row["instruction"] for row in found if row["pipeline_rank"] == str(place)] for place in (0, 1)] == lists
    detail = rows(run("program", "show", *tiny, "tp2", "--rank", 1, "--limit", 3, "--format", "csv").out)
    assert [row["index"] for row in detail] == ["0", "1", "2"]
    assert (detail[1]["layers"], detail[2]["ranks"]) == ("block0.qkv block0.attention block0.out", "0 1")


def test_a_run_is_one_row() -> None:
    assert flat({"steps": 2, "losses": [3.0, 2.0, 1.0]}) == {"steps": 2, "first_loss": 3.0, "last_loss": 1.0}
    assert flat({"losses": []}) == {"first_loss": None, "last_loss": None}


@pytest.mark.parametrize("jobs", [0, -1])
def test_a_sweep_needs_a_process(run: Run, tiny: list[str], jobs: int) -> None:
    done = run("sweep", *tiny, "dp2", "--over", "plan.tp=1,2", "--jobs", jobs)
    assert (done.code, done.out) == (2, "")
    assert "--jobs" in done.err


@pytest.mark.parametrize(("options", "topology"), [([], "local-cpu"), (["--topology", "pcie-box"], "pcie-box")])
def test_the_demo_measures_one_topology(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], topology: str
) -> None:
    seen: dict[str, object] = {}

    def calibrate(**given: object) -> int:
        seen["calibrate"] = given["topology"]
        return 0

    def validate(**given: object) -> int:
        seen["validate"] = given["topology"]
        return 0

    monkeypatch.setattr("simulator.commands.calibrate.calibrate", calibrate)
    monkeypatch.setattr("simulator.commands.validate.validate", validate)
    assert run("demo", "-o", tmp_path, *options).code == 0
    assert seen == {"calibrate": topology, "validate": topology}


def test_run_refuses_what_does_not_fit(run: Run) -> None:
    done = run("run", "--model", "gpt3-175b", "--topology", "local-cpu", "--plan", "pp2", "-o", "unused")
    assert done.code == 1
    assert "does not fit" in done.err and "activations" in done.err


def test_program_shows_gatherings_and_second_forwards(run: Run, tiny: list[str]) -> None:
    settings = ["--set", "plan.sharding=fsdp", "--set", "plan.recompute=full"]
    detail = rows(run("program", "show", *tiny, "dp2", *settings, "--rank", 1, "--format", "csv").out)
    by_kind = {row["instruction"].rstrip("0123456789."): row for row in detail}
    assert by_kind["0UNSHARD"]["stream"] == "dp_gather"
    assert by_kind["0UNSHARD"]["ranks"] == "0 1"
    assert by_kind["0RESHARD"]["layers"] == "embedding"
    assert "block0.attention" in by_kind["0R"]["layers"]
    assert " R " in run("program", "show", *tiny, "dp2", *settings, "--grid").out
