"""Laws of every prediction: speed of light <= predicted <= serial, and MFU as everyone defines it."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.cost.calibration import BACKWARD, FORWARD, WEIGHT_ONLY, Calibration, layer_key
from simulator.errors import InputError
from simulator.load import Inputs, load
from simulator.planning import load_calibration, predict
from simulator.results.recording import write_json

Run = Callable[..., Any]
MACHINES = [
    ("local-cpu", "topology.node.count=4"),
    ("two-node-ethernet", "topology.nodes=2"),
    ("ring-8", "topology.graph.transit=true"),
]
EXACT = 1 + 1e-9


@pytest.mark.parametrize(("topology", "setting"), MACHINES)
@pytest.mark.parametrize("model", ["gpt-tiny", "cnn-tiny"])
def test_bounds_hold_for_every_mesh(topology: str, setting: str, model: str) -> None:
    checked = 0
    for tp, pp, axes in itertools.product((1, 2, 4), (1, 2, 4), ("[pp,dp,tp]", "[tp,dp,pp]")):
        settings = [setting, f"plan.tp={tp}", f"plan.pp={pp}", f"plan.axes={axes}", "plan.num_microbatches=4"]
        try:
            found = predict(load(model, topology, "single", settings))
        except InputError:
            continue
        assert found.speed_of_light <= found.metrics.step_time * EXACT
        assert found.metrics.step_time <= found.serial * EXACT
        checked += 1
    assert checked >= 8


def test_one_rank_has_no_overlap_to_lose() -> None:
    found = predict(load("gpt-tiny", "local-cpu", "single", ["topology.node.count=1"]))
    assert found.serial == pytest.approx(found.metrics.step_time, rel=1e-9)
    assert found.model_flops == found.executed_flops


def test_mfu_counts_each_product_once_and_hfu_what_is_repeated() -> None:
    found = predict(load("gpt-tiny", "local-cpu", "tp2"))
    # One block: 4 h^2 for attention's projections, 8 h^2 for the MLP, 2 s h for scores and context, a token; the head
    # h V. Two FLOPs each, three times for forward and both gradients (Narayanan et al. 2021, equation 3).
    hidden, tokens, vocabulary, layers = 256, 128, 1024, 4
    forward = 2 * (layers * (12 * hidden**2 + 2 * tokens * hidden) + hidden * vocabulary)
    samples = found.inputs.plan.global_batch_size
    assert found.model_flops == pytest.approx(3 * forward * tokens * samples)
    # The head is not cut: both ranks compute it.
    assert found.executed_flops == pytest.approx(found.model_flops + 3 * 2 * hidden * vocabulary * tokens * samples)
    result = found.result()
    assert result["mfu"] == pytest.approx(found.model_flops / (2 * 80e9 * result["step_time_s"]))
    assert result["hfu"] > result["mfu"]


def measured_like(inputs: Inputs, seconds: float) -> Calibration:
    """Every layer took the same time."""
    graph, plan = inputs.graph, inputs.plan
    parts = {FORWARD: seconds, BACKWARD: seconds, WEIGHT_ONLY: seconds}
    keys = (layer_key(n.layer, graph.input_shapes(n), plan.microbatch_size, plan.dtype) for n in graph.nodes)
    return Calibration(layers=dict.fromkeys(keys, parts), about={"machine": "imagined"})


def test_a_machine_faster_than_its_data_sheet_does_not_break_the_lower_bound() -> None:
    inputs = load("gpt-tiny", "local-cpu", "pp2")
    found = predict(inputs, measured_like(inputs, 1e-9))
    assert found.speed_of_light <= found.metrics.step_time * EXACT
    assert found.basis["layer_passes_estimated"] == 0
    assert found.basis["layer_passes_measured"] > 0


def test_a_calibration_file_is_used_and_named(run: Run, tiny: list[str], tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    calibration = measured_like(load("gpt-tiny", "local-cpu", "dp2"), 0.001)
    write_json(path, calibration.to_json())
    assert load_calibration(path) == calibration
    result = json.loads(run("simulate", *tiny, "dp2", "--calibration", path, "--format", "json").out)
    assert result["basis"]["compute"] == "measured layers"
    assert result["basis"]["calibration"] == {"machine": "imagined"}
    assert "machine imagined" in run("simulate", *tiny, "dp2", "--calibration", path).out


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "it is not JSON at line 1, column 1"),
        ('{\n"layers": }', "it is not JSON at line 2, column 11"),
        ("\x1f\x8b", "it is neither JSON nor compressed JSON"),
        ("\x1f\x8b\x08\0\0\0\0\0\0\0not deflated", "it is neither JSON nor compressed JSON"),
        ("\xff\xfe\xfd", "it is neither JSON nor compressed JSON"),
        ("[]", "it has no format plancast-calibration-1"),
        ("{}", "it has no format plancast-calibration-1"),
        ('{"format": "plancast-recording-1"}', "its format is plancast-recording-1, not plancast-calibration-1"),
        ("{FORMAT}", "it has no layers"),
        ('{FORMAT, "layers": {}, "messages": {}, "updates": {}, "about": {}}', "it has no jitter"),
        ('{FORMAT, "layers": []}', "its tables are not of the form that is written"),
        ('{FORMAT, "layers": {"key": {"forward": "fast"}}}', "its tables are not of the form that is written"),
        ('{FORMAT, "layers": {}, "messages": {"send x2": [[1]]}}', "its tables are not of the form that is"),
    ],
)
def test_other_files_are_no_calibrations(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(text.replace("FORMAT", '"format": "plancast-calibration-1"').encode("latin-1"))
    with pytest.raises(InputError) as refused:
        load_calibration(path)
    assert str(refused.value).startswith(f"{path}: is not a calibration file: {cause}")


def test_a_file_that_is_not_there_is_no_calibration(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file or directory; plancast calibrate -o FILE"):
        load_calibration(tmp_path / "absent.json")
