"""Which layer's time is whose, on a clock that only the layers' own work advances."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from executor.layer_times import SegmentTimes, time_segment
from executor.modules import put_off
from executor.stage import TARGET, StageModule
from simulator.cost.calibration import BACKWARD, FORWARD, INNER_GRAD, INPUT_GRAD, WEIGHT_GRAD, WEIGHT_ONLY
from simulator.load import load

BACKWARD_SECONDS = {"fc0": 3.0, "relu0": 5.0, "fc1": 7.0, "relu1": 11.0, "head": 13.0, "loss": 17.0}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(torch.autograd.Function):
    """Takes a second forward, and backward what it is told."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, clock: Clock, seconds: float) -> Tensor:
        ctx.clock, ctx.seconds = clock, seconds
        clock.now += 1.0
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.clock.now += ctx.seconds
        return gradient, None, None


def timed(monkeypatch: pytest.MonkeyPatch, splits: bool) -> tuple[SegmentTimes, StageModule]:
    """Time an MLP of two hidden layers; a weight that was put off takes a second a parameter."""
    inputs = load("mlp-tiny", "local-cpu", "single", ["topology.node.count=1", "model.hidden_sizes=[8,6]"])
    program, clock = inputs.program, Clock()
    stage = StageModule(program.stages[0], program.graph, inputs.plan, 0, torch.float32, torch.device("cpu"), splits)
    for module in stage.layers:
        seconds = BACKWARD_SECONDS[module.node.name]
        module.run = lambda *given, run=module.run, seconds=seconds: Slow.apply(run(*given), clock, seconds)
    add = put_off._add_to

    def slow_add(parameter: Tensor, gradient: Tensor) -> None:
        clock.now += parameter.numel()
        add(parameter, gradient)

    monkeypatch.setattr(put_off, "_add_to", slow_add)
    torch.manual_seed(0)
    borders = {"input": torch.randn(8, 784), TARGET: torch.randint(10, (8,))}
    return time_segment(stage, 0, program.graph, borders, clock, lambda: None), stage


def parts(times: SegmentTimes) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for node, part, seconds in times.layers:
        found.setdefault(node.name, {})[part] = seconds
    return found


def test_halves_of_a_split_backward_are_timed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    times, _ = timed(monkeypatch, splits=True)
    parameters = {"fc0": 784 * 8 + 8, "fc1": 8 * 6 + 6, "head": 6 * 10 + 10}
    assert parts(times) == {
        name: {
            FORWARD: 1.0,
            INNER_GRAD if name == "fc0" else INPUT_GRAD: seconds,
            WEIGHT_GRAD: parameters.get(name, 0.0),
        }
        for name, seconds in BACKWARD_SECONDS.items()
    }
    assert times.passes == {FORWARD: 6.0, INPUT_GRAD: 56.0, WEIGHT_GRAD: sum(parameters.values())}


def test_a_whole_backward_is_timed_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    times, _ = timed(monkeypatch, splits=False)
    assert parts(times) == {
        name: {FORWARD: 1.0, WEIGHT_ONLY if name == "fc0" else BACKWARD: seconds}
        for name, seconds in BACKWARD_SECONDS.items()
    }
    assert times.passes == {FORWARD: 6.0, BACKWARD: 56.0}
    assert times.starts == {BACKWARD: 0.0}


def test_what_a_backward_takes_before_its_first_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the gradients that it starts from take two seconds to make."""
    clocks: list[Clock] = []
    ones_like = torch.ones_like

    def slow_ones(tensor: Tensor) -> Tensor:
        clocks[0].now += 2.0
        return ones_like(tensor)

    monkeypatch.setattr(Clock, "__init__", lambda self: (setattr(self, "now", 0.0), clocks.append(self))[0])
    monkeypatch.setattr(torch, "ones_like", slow_ones)
    times, _ = timed(monkeypatch, splits=False)
    assert times.starts == {BACKWARD: 2.0}
    assert times.passes == {FORWARD: 6.0, BACKWARD: 56.0}


def test_both_compute_the_same_gradients_and_leave_nothing_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    _, apart = timed(monkeypatch, splits=True)
    _, whole = timed(monkeypatch, splits=False)
    for ours, theirs in zip(apart.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert apart.deferred and not apart.deferred.queue
