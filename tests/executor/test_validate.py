"""`plancast validate` from end to end, as small as it gets: train, calibrate, predict, compare, write."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.cost.calibration import BACKWARD, FORWARD, INNER_GRAD, INPUT_GRAD, WEIGHT_GRAD, WEIGHT_ONLY
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


# plan, schedule, the operation that was measured, parts of the layers that were
PLANS = [
    ("dp2", "1f1b", "all_reduce x2", {FORWARD, BACKWARD, WEIGHT_ONLY}),
    ("pp2", "zb_h1", "send x2", {FORWARD, INPUT_GRAD, INNER_GRAD, WEIGHT_GRAD}),
]


@pytest.mark.parametrize(("plan", "schedule", "operation", "parts"), PLANS, ids=["dp2", "zb_h1"])
def test_validate_predicts_runs_and_compares(
    tmp_path: Path, plan: str, schedule: str, operation: str, parts: set[str]
) -> None:
    arguments = ["validate", "--model", "gpt-tiny", "--topology", "local-cpu", "--plan", plan, "--format", "json"]
    arguments += ["--rounds", "2", "--steps", "1", "--output", str(tmp_path)]
    arguments += ["--set", f"plan.schedule={schedule}"]
    arguments += [word for size in SIZES for word in ("--set", size)]
    start = f"from simulator.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr

    (told,) = json.loads(done.stdout)
    assert told["name"] == f"gpt-tiny-{plan}"
    assert told["same_order"] and told["same_inputs"]
    assert told["steps"] == 2
    assert set(told["round_errors"]) == {"0", "1"}
    low, high = told["error_interval"]
    assert low <= told["error"] <= high
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
        assert calibration.updates and operation in calibration.messages
        assert {part for times in calibration.layers.values() for part in times} == parts
    names = {
        event["args"]["name"]
        for event in read_json(folder / "trace.json.gz")["traceEvents"]
        if event["name"] == "process_name"
    }
    assert names >= {"predicted rank 0", "measured rank 0", "measured rank 1"}


def test_ranks_of_a_pipeline_time_different_numbers_of_segments(tmp_path: Path) -> None:
    """What all of them take part in must not go between layers, of which each has its own."""
    arguments = ["validate", "--model", "mlp-tiny", "--topology", "local-cpu", "--plan", "pp2", "--timeout", "20"]
    arguments += ["--rounds", "1", "--steps", "1", "--output", str(tmp_path)]
    arguments += ["--set", "plan.recompute=full", "--set", "model.hidden_sizes=[16, 16, 16, 16]"]
    arguments += ["--set", "plan.stages=[hidden0, hidden1]"]
    start = f"from simulator.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
