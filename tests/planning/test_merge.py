"""Calibrations of several plans become one."""

import pytest

from simulator.cost.calibration import (
    BACKWARD,
    FORWARD,
    INPUT_GRAD,
    WEIGHT_GRAD,
    WEIGHT_ONLY,
    Calibration,
    layer_key,
    update_key,
)
from simulator.load import load
from simulator.planning.predict import predict_with_range
from simulator.planning.validate import merge


def test_parts_that_only_some_plans_ran_are_all_kept() -> None:
    whole = Calibration(layers={"linear": {FORWARD: 1.0, BACKWARD: 3.0}})
    apart = Calibration(layers={"linear": {FORWARD: 2.0, INPUT_GRAD: 4.0, WEIGHT_GRAD: 5.0}})
    expected = {"linear": {FORWARD: 1.5, BACKWARD: 3.0, INPUT_GRAD: 4.0, WEIGHT_GRAD: 5.0}}
    assert merge([whole, apart]).layers == merge([apart, whole]).layers == expected


def test_what_was_measured_twice_has_a_spread_and_a_prediction_a_range() -> None:
    """Layers took 0.8, 1 and 1.4 of their median: so does a step on one device, which is nothing but layers."""
    inputs = load("mlp-tiny", "local-cpu", "single", ["topology.node.count=1"])
    graph, plan = inputs.graph, inputs.plan
    keys = [layer_key(n.layer, graph.input_shapes(n), plan.microbatch_size, plan.dtype) for n in graph.nodes]

    def measured(seconds: float) -> Calibration:
        parts = dict.fromkeys((FORWARD, BACKWARD, WEIGHT_ONLY), seconds)
        kind = update_key(plan.optimizer.kind, plan.dtype)
        return Calibration(layers=dict.fromkeys(keys, parts), updates={kind: (seconds, 0.0)})

    merged = merge([measured(seconds) for seconds in (0.8, 1.4, 1.0)])
    assert merged.layers == measured(1.0).layers
    assert merged.spread[f"{keys[0]} {FORWARD}"] == (0.8, 1.4)
    assert Calibration.from_json(merged.to_json()) == merged
    prediction = predict_with_range(inputs, merged)
    assert prediction.step_range == pytest.approx(
        [0.8 * prediction.metrics.step_time, 1.4 * prediction.metrics.step_time]
    )
    assert predict_with_range(inputs, measured(1.0)).step_range is None
