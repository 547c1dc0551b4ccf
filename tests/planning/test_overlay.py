"""What was measured of a device becomes a topology file that says so."""

from pathlib import Path
from typing import Any

import pytest

from simulator.cost.calibration import (
    LAUNCH_OVERHEAD,
    MEMORY_BANDWIDTH,
    OVERLAP_SLOWDOWN,
    Calibration,
    product_rate,
)
from simulator.load import load, load_topology, read
from simulator.planning import predict
from simulator.planning.overlay import figure_lines, overlay
from simulator.planning.validate import merge
from simulator.reports.yaml_text import yaml_text
from simulator.topology import Topology

ABOUT = {"date": "2026-01-02T03:04:05+00:00", "device": "A processor", "kind": "cpu-core", "torch": "2.13.0"}
FIGURES = {
    MEMORY_BANDWIDTH: (18e9, 20e9, 21e9),
    LAUNCH_OVERHEAD: (2e-6, 3e-6, 3e-6),
    OVERLAP_SLOWDOWN: (0.1, 0.2, 0.2),
    product_rate("fp32"): (72e9, 60e9, 75e9),
}


def calibration(**figures: Any) -> Calibration:
    return Calibration(device={name: values for name, values in (FIGURES | figures).items() if values}, about=ABOUT)


def written(name: str, path: Path, measured: Calibration) -> Topology:
    """Write the overlay of a preset and read it again."""
    path.write_text(yaml_text(overlay(read("topology", name).data, load_topology(name), measured)))
    return load_topology(str(path))


def test_a_topology_takes_over_what_was_measured(tmp_path: Path) -> None:
    before, after = load_topology("local-cpu"), written("local-cpu", tmp_path / "here.yaml", calibration())
    device = after.device(0)
    assert after.name == "local-cpu-calibrated"
    assert device.memory_bandwidth * device.efficiency.memory == pytest.approx(20e9, rel=1e-3)
    assert device.memory_bandwidth == before.device(0).memory_bandwidth
    assert device.peak["fp32"] * device.efficiency.of_products("fp32") == pytest.approx(72e9, rel=1e-3)
    assert device.launch_overhead == pytest.approx(3e-6)
    assert device.memory == before.device(0).memory
    assert device.efficiency.of_products("bf16") == before.device(0).efficiency.of_products("bf16")
    assert (after.hosts, after.sources["link device - loopback"]) == (
        before.hosts,
        before.sources["link device - loopback"],
    )


def test_it_says_when_where_with_what_and_how_surely(tmp_path: Path) -> None:
    device = written("local-cpu", tmp_path / "here.yaml", calibration()).device(0)
    for source in (device.source, device.efficiency_source):
        assert "2026-01-02T03:04:05" in source and "A processor" in source and "torch 2.13.0" in source
        assert "medians of 3 samples, 95 % intervals" in source
    assert "memory bandwidth 20 GB/s (18 GB/s to 21 GB/s); products fp32 72 GFLOP/s (60" in device.efficiency_source
    assert "launch overhead 3 us (2 us to 3 us)" in device.source


def test_a_peak_that_was_exceeded_is_raised(tmp_path: Path) -> None:
    faster = calibration(**{MEMORY_BANDWIDTH: (50e9,), product_rate("fp32"): (100e9,)})
    device = written("local-cpu", tmp_path / "here.yaml", faster).device(0)
    assert (device.memory_bandwidth, device.efficiency.memory) == (50e9, 1.0)
    assert (device.peak["fp32"], device.efficiency.of_products("fp32")) == (100e9, 1.0)
    assert device.peak["bf16"] == 80e9


@pytest.mark.parametrize(
    ("slowdowns", "fraction"),
    [((0.1, 0.2, 0.2), 0.2), ((-0.1, 0.2, 0.3), 0.0), ((0.2,), 0.0), ((0.95, 0.96), 0.9), ((), 0.0)],
    ids=["surely", "perhaps not", "one sample", "more than a topology takes", "not measured"],
)
def test_an_overlap_slowdown_is_taken_over_where_it_surely_is_one(
    tmp_path: Path, slowdowns: tuple[float, ...], fraction: float
) -> None:
    gpu = written("pcie-box", tmp_path / "gpu.yaml", calibration(**{OVERLAP_SLOWDOWN: slowdowns})).device(0)
    assert gpu.overlap_slowdown == pytest.approx(fraction)
    assert gpu.efficiency.attention == load_topology("pcie-box").device(0).efficiency.attention


def test_ranks_that_share_cores_have_no_overlap_slowdown_beside(tmp_path: Path) -> None:
    assert written("local-cpu", tmp_path / "here.yaml", calibration()).device(0).overlap_slowdown == 0.0


def test_a_prediction_from_the_overlay_follows_the_measured_figures(tmp_path: Path) -> None:
    """Half of every rate and twice the launch: a step on one device takes twice as long."""
    steps = []
    for factor in (1.0, 0.5):
        figures = {
            MEMORY_BANDWIDTH: (factor * 20e9,),
            LAUNCH_OVERHEAD: (3e-6 / factor,),
            product_rate("fp32"): (factor * 72e9,),
        }
        path = tmp_path / f"{factor}.yaml"
        written("local-cpu", path, calibration(**figures))
        steps.append(predict(load("mlp-tiny", str(path), "single", ["topology.node.count=1"])).metrics.step_time)
    assert steps[1] == pytest.approx(2 * steps[0], rel=1e-3)


def test_samples_of_all_parts_are_kept_and_survive_their_file() -> None:
    merged = merge([Calibration(device={MEMORY_BANDWIDTH: (value,)}, about=ABOUT) for value in (1e9, 2e9, 4e9)])
    assert merged.device == {MEMORY_BANDWIDTH: (1e9, 2e9, 4e9)}
    assert Calibration.from_json(merged.to_json()) == merged
    assert figure_lines(merged) == ["memory bandwidth 2 GB/s (1 GB/s to 4 GB/s)"]
    assert figure_lines(Calibration(device={LAUNCH_OVERHEAD: (5e-6,)})) == ["launch overhead 5 us"]
