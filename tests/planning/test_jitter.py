"""Varying times: mean 1, reproducible, and a step that is longer where ranks meet."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, pstdev

import pytest

from simulator.cost import Calibration
from simulator.cost.jitter import Noise
from simulator.load import load
from simulator.planning import predict


def test_factors_have_mean_one_and_the_deviation_asked_for() -> None:
    noise = Noise(0.2, seed=1)
    factors = [noise.factor() for _ in range(20_000)]
    assert fmean(factors) == pytest.approx(1, abs=0.01)
    assert pstdev(factors) == pytest.approx(0.2, rel=0.05)


def test_ranks_that_meet_wait_for_the_slowest() -> None:
    inputs = load("gpt-tiny", "local-cpu", "tp2")
    steady = predict(inputs, Calibration())
    varying = predict(inputs, replace(Calibration(), jitter=0.2))
    again = predict(inputs, replace(Calibration(), jitter=0.2))
    assert varying.metrics.step_time > 1.02 * steady.metrics.step_time
    assert varying.metrics.step_time == again.metrics.step_time
    assert varying.metrics.step_time <= varying.serial * (1 + 1e-9)
    assert varying.metrics.bubble_fraction > steady.metrics.bubble_fraction


def test_a_rank_alone_has_nobody_to_wait_for() -> None:
    inputs = load("gpt-tiny", "local-cpu", "single", ["topology.node.count=1"])
    steady = predict(inputs, Calibration())
    varying = predict(inputs, replace(Calibration(), jitter=0.1))
    assert varying.metrics.step_time == pytest.approx(steady.metrics.step_time, rel=0.1)
