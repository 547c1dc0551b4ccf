"""Calibrations of several plans become one."""

from simulator.cost.calibration import BACKWARD, FORWARD, INPUT_GRAD, WEIGHT_GRAD, Calibration
from simulator.planning.validate import merge


def test_parts_that_only_some_plans_ran_are_all_kept() -> None:
    whole = Calibration(layers={"linear": {FORWARD: 1.0, BACKWARD: 3.0}})
    apart = Calibration(layers={"linear": {FORWARD: 2.0, INPUT_GRAD: 4.0, WEIGHT_GRAD: 5.0}})
    expected = {"linear": {FORWARD: 1.5, BACKWARD: 3.0, INPUT_GRAD: 4.0, WEIGHT_GRAD: 5.0}}
    assert merge([whole, apart]).layers == merge([apart, whole]).layers == expected
