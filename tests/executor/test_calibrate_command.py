"""`plancast calibrate` from end to end, as small as it gets: measure, write, and predict from what was written."""

import subprocess
import sys
from pathlib import Path

import pytest

from simulator.cost.calibration import LAUNCH_OVERHEAD, MEMORY_BANDWIDTH, OVERLAP_SLOWDOWN, product_rate
from simulator.load import load, load_topology
from simulator.planning import load_calibration, predict

pytestmark = pytest.mark.distributed


def test_calibrate_writes_times_and_a_topology_that_predicts(tmp_path: Path) -> None:
    times, topology = tmp_path / "here.json", tmp_path / "here.yaml"
    arguments = ["calibrate", "-o", str(times), "--overlay", str(topology), "--rounds", "1"]
    arguments += ["--model", "linear-regression", "--topology", "local-cpu", "--plan", "dp2"]
    start = f"from simulator.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr

    measured = load_calibration(times)
    assert set(measured.device) == {MEMORY_BANDWIDTH, LAUNCH_OVERHEAD, OVERLAP_SLOWDOWN, product_rate("fp32")}
    (slowdown,) = measured.device[OVERLAP_SLOWDOWN]
    assert slowdown < 1, "below zero is possible: both times vary"
    assert all(value > 0 for name, (value,) in measured.device.items() if name != OVERLAP_SLOWDOWN)
    assert len(measured.messages["all_reduce x2"]) > 5, "standard sizes beside the plan's own"
    assert "launch overhead" in done.stdout and str(topology) in done.stdout

    device = load_topology(str(topology)).device(0)
    assert device.launch_overhead == pytest.approx(measured.device[LAUNCH_OVERHEAD][0], rel=1e-3)
    assert measured.about["torch"] in device.source and measured.about["date"] in device.source
    inputs = load("linear-regression", str(topology), "dp2")
    assert predict(inputs).metrics.step_time > 0
    assert predict(inputs, measured).basis["layer_passes_estimated"] == 0
