"""What sums of input gradients hide behind weight gradients, by hand."""

from itertools import pairwise

import pytest

from simulator.cost import Calibration
from simulator.engine import simulate
from simulator.load import load
from simulator.program import Kind

LAYERS = ("topology.nodes=1", "plan.pp=1", "plan.num_microbatches=2", "model.num_hidden_layers=2")


@pytest.mark.parametrize("shares", ["false", "true"])
def test_a_step_is_shorter_by_the_shorter_of_each_sum_and_the_weight_gradients_beside_it(shares: str) -> None:
    settings = [*LAYERS, f"plan.sequence_parallel={shares}"]
    timelines = {
        flag: simulate(inputs.program, inputs.topology, Calibration())[0]
        for flag in ("false", "true")
        for inputs in [load("gpt3-175b", "dgx-h100", "gpt3-tp8-pp8", [*settings, f"plan.tp_overlap={flag}"])]
    }
    spans = timelines["true"].of(0)
    hidden = 0.0
    for span, after in pairwise(spans):
        if span.instruction.kind is Kind.TP_B and after.instruction.kind is Kind.W:
            assert after.start == pytest.approx(span.start, rel=1e-9)
            hidden += min(span.end - span.start, after.end - after.start)
    # Two a block, and the head's.
    assert sum(span.instruction.kind is Kind.W for span in spans) == 2 * (2 * 2 + 1)
    assert hidden > 0
    assert timelines["false"].step_time - timelines["true"].step_time == pytest.approx(hidden, rel=1e-6)


def test_a_segment_that_ends_in_several_sums_has_its_weight_gradients_once() -> None:
    """A router and its experts read the same: `load` verifies that nothing appears twice."""
    settings = ["model.num_hidden_layers=2", "plan.tp_overlap=true"]
    (order,) = load("mixtral-8x7b", "local-cpu", "tp2", settings).program.lists
    weights = [each for each in order if each.kind is Kind.W and each.microbatch == 0]
    assert weights and len(weights) == len({each.part for each in weights})
