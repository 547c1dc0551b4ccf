"""`plancast validate` from end to end, as small as it gets: train, calibrate, predict, compare, write."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.planning import load_calibration
from simulator.results.recording import Recording, read_json

pytestmark = pytest.mark.distributed

SIZES = (
    "model.num_hidden_layers=1",
    "model.hidden_size=32",
    "model.num_attention_heads=4",
    "model.vocab_size=50",
    "model.sequence_length=16",
    "plan.microbatch_size=2",
)


def test_validate_predicts_runs_and_compares(tmp_path: Path) -> None:
    arguments = ["validate", "--model", "gpt-tiny", "--topology", "local-cpu", "--plan", "dp2", "--format", "json"]
    arguments += ["--rounds", "2", "--steps", "1", "--output", str(tmp_path)]
    arguments += [word for size in SIZES for word in ("--set", size)]
    start = f"from simulator.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr

    (told,) = json.loads(done.stdout)
    assert told["name"] == "gpt-tiny-dp2"
    assert told["same_order"] and told["same_inputs"]
    assert told["steps"] == 2
    assert set(told["round_errors"]) == {"0", "1"}
    assert told["step_time_s"]["predicted"] > 0 and told["step_time_s"]["measured"] > 0
    assert read_json(tmp_path / "result.json")["results"] == [told]

    folder = tmp_path / told["name"]
    measured, predicted = (Recording.load(folder / f"{source}.json.gz") for source in ("measured", "predicted"))
    assert measured.complete and measured.rounds == predicted.rounds == (0, 1)
    assert {str(span.instruction) for span in measured.steps[0].spans} == {
        str(span.instruction) for span in predicted.steps[0].spans
    }
    for turn in range(2):
        calibration = load_calibration(folder / f"calibration-{turn}.json")
        assert calibration.layers and calibration.updates and "all_reduce x2" in calibration.messages
    names = {
        event["args"]["name"]
        for event in read_json(folder / "trace.json.gz")["traceEvents"]
        if event["name"] == "process_name"
    }
    assert names >= {"predicted rank 0", "measured rank 0", "measured rank 1"}
