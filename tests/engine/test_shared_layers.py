"""Steps whose experts or sequences are shared out: folding, and what of the exchanges is hidden."""

from typing import Any

import pytest

from simulator.load import Inputs, load
from simulator.program.instructions import STREAM_OF, Stream
from simulator.results import measure
from tests.engine.test_fold import check

LAYERS = ("model.num_hidden_layers=2", "model.flash=true", "plan.dp=auto", "plan.dtype=bf16", "plan.microbatch_size=1")


def planned(model: str, *changes: str) -> Inputs:
    return load(model, "dgx-h100", "single", [*LAYERS, *changes])


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        pytest.param("mixtral-8x7b", ("plan.ep=4", "plan.tp=2"), id="experts in a node"),
        pytest.param("mixtral-8x7b", ("topology.nodes=2", "plan.ep=8", "plan.pp=2"), id="experts and stages"),
        pytest.param("llama3-8b", ("plan.cp=4",), id="ring"),
        pytest.param("llama3-8b", ("topology.nodes=2", "plan.cp=16"), id="ring over nodes"),
        pytest.param("mixtral-8x7b", ("plan.cp=2", "plan.ep=8", "plan.context_parallel=all_to_all"), id="both"),
    ],
)
def test_folded_is_unfolded(lab: Any, model: str, changes: tuple[str, ...]) -> None:
    check(lab, planned(model, *changes))


def hidden(lab: Any, mode: str) -> float:
    """Return the share of the context-parallel messages' time in which their rank computes."""
    long = ("plan.cp=8", "model.sequence_length=65536", "plan.num_microbatches=1", f"plan.context_parallel={mode}")
    timeline = lab.run(planned("llama3-8b", *long))
    spans = timeline.of(next(iter(timeline.ranks)))
    computing = [span for span in spans if STREAM_OF[span.instruction[0]] is Stream.COMPUTE]
    moving = [span for span in spans if STREAM_OF[span.instruction[0]] is Stream.CP]
    both = sum(max(0.0, min(a.end, b.end) - max(a.start, b.start)) for a in moving for b in computing)
    return both / sum(span.end - span.start for span in moving)


def test_a_ring_hides_behind_long_attention(lab: Any) -> None:
    """Attention over 8192 tokens a rank takes longer than their keys and values over NVLink; the others wait."""
    assert hidden(lab, "ring") == pytest.approx(1)
    assert hidden(lab, "all_gather") == hidden(lab, "all_to_all") == 0


def test_experts_of_a_node_exchange_faster_than_of_two(lab: Any) -> None:
    one, two = (
        measure(lab.run(planned("qwen3-30b-a3b", "topology.nodes=2", f"plan.ep={ep}"))).exposed_comm_time
        for ep in (8, 16)
    )
    assert two > 2 * one
