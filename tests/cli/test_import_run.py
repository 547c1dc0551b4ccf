"""plancast import-run."""

import csv
from pathlib import Path

import pytest

from simulator.inputs.yaml_source import read_document
from simulator.load import load

ROW = {
    "id": "one",
    "source": "a paper",
    "hardware": "A100-SXM4-80GB",
    "gpus": "8",
    "framework": "PyTorch FSDP",
    "arch": "gpt",
    "layers": "2",
    "hidden": "512",
    "heads": "8",
    "seq_len": "512",
    "dtype": "bf16",
    "micro_batch": "2",
    "global_batch": "16",
    "step_time_s": "0.5",
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROW))
        writer.writeheader()
        writer.writerow(ROW)
    return path


@pytest.mark.parametrize("name", ["one", "1"])
def test_it_writes_what_simulate_takes(run, table: Path, tmp_path: Path, name: str) -> None:  # type: ignore[no-untyped-def]
    assert run("import-run", str(table), name, "-o", str(tmp_path / "run")).code == 0
    files = [str(tmp_path / "run" / f"{each}.yaml") for each in ("model", "topology", "plan")]
    inputs = load(*files)
    assert (inputs.plan.dp, inputs.plan.sharding, inputs.topology.world_size) == (8, "fsdp", 8)
    plan = Path(files[2]).read_text()
    assert "# measured: 500 ms a step" in plan
    assert "global_batch_size: 16  # stated" in plan
    assert "recompute: none  # default: not stated" in plan
    assert read_document(files[0], "model").data["vocab_size"] == 51200
