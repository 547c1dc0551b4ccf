"""What a device reaches: real measurements for their form, a made-up clock for their arithmetic."""

from dataclasses import replace

import pytest
import torch

from executor.calibrate_device import REPEATS, DeviceMeter
from simulator.cost.calibration import LAUNCH_OVERHEAD, MEMORY_BANDWIDTH, product_rate
from simulator.cost.kernels import product_seconds
from simulator.load import load_topology
from simulator.model.layers.base import matmul
from simulator.topology import Device, Efficiency

CPU = load_topology("local-cpu").device(0)


def meter(stated: Device = CPU, *dtypes: str) -> DeviceMeter:
    return DeviceMeter(torch.device("cpu"), stated, dtypes or ["fp32"], None)


def test_every_figure_is_measured_and_positive() -> None:
    figures = meter(CPU, "fp32", "bf16").alone()
    assert set(figures) == {MEMORY_BANDWIDTH, LAUNCH_OVERHEAD, product_rate("fp32"), product_rate("bf16")}
    assert all(value > 0 for value in figures.values())


@pytest.mark.parametrize("slower", [0.5, 1.0, 4.0])
def test_products_that_lose_what_the_device_says_give_the_rate_of_endless_ones(
    monkeypatch: pytest.MonkeyPatch, slower: float
) -> None:
    """Each shape takes a multiple of the stated time, padding and all, and a launch: so does an endless product."""
    stated = replace(CPU, efficiency=Efficiency(matmul=0.8, memory=0.8, edge=70.0, depth=130.0))
    launch = 1e-5

    def seconds(side: int) -> float:
        return launch + slower * product_seconds(matmul(side, side, side), stated, "fp32")

    subject = meter(stated)
    monkeypatch.setattr(subject, "_multiplication", lambda dtype, side: side)
    monkeypatch.setattr(subject, "_seconds", seconds)
    assert subject._products("fp32", launch) == pytest.approx(0.8 * stated.peak["fp32"] / slower)


def test_a_stream_counts_what_is_read_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy and a triad: five times an array a second."""
    subject = meter()
    monkeypatch.setattr(subject, "_seconds", lambda work: 1.0)
    assert subject._stream() == 5 * subject._arrays[0].nbytes


def test_one_stall_does_not_set_a_figure() -> None:
    times = iter([100.0, 1.0, *[2.0] * (REPEATS - 2), 50.0])
    assert meter()._middle(lambda: next(times)) == 2.0
