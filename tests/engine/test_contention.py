"""Messages that meet on a link, worked out by hand."""

from typing import Any

import pytest

from simulator.load import Inputs
from simulator.results.timeline import Span, Timeline


def spans(timeline: Timeline, kind: str) -> list[Span]:
    """All recorded spans of a kind."""
    return [span for span in timeline.spans if span.instruction.kind == kind]


def size(inputs: Inputs, span: Span) -> float:
    return inputs.program.message(span.instruction).size


@pytest.mark.parametrize("width", [2, 4])
def test_all_reduces_share_a_cable(lab: Any, width: int) -> None:
    """Replicas on two leaves; the ``width`` rings between them, of two ranks each, get their share of the one cable."""
    ports = [lab.link(f"d{index}", f"s{index // width}", "20 GB/s", "1 us") for index in range(2 * width)]
    topology = lab.graph(["fast"] * (2 * width), [*ports, lab.link("s0", "s1", "30 GB/s", "3 us")], switches=2)
    topology |= lab.rings
    inputs = lab.compile(lab.gpt, topology, dp=2, tp=width, axes=["pp", "dp", "tp"], dp_overlap=False)
    (reduction,) = spans(lab.run(inputs), "REDUCE_GRAD")
    # Both of the 2 (n - 1) = 2 steps cross port, cable, port; each carries half of the bytes.
    share = min(20e9, 30e9 / width)
    expected = 2 * 5e-6 + size(inputs, reduction) / share
    assert reduction.end - reduction.start == pytest.approx(expected, rel=1e-9)


def test_a_message_between_stages_against_a_ring(lab: Any) -> None:
    """At the end of backward, the last stage sends its gradient while its ring over two replicas begins."""
    box = lab.box(4, lab.link("device", "switch", "20 GB/s", "0 s"))
    inputs = lab.compile(lab.mlp, box, pp=2, dp=2, axes=["pp", "dp", "tp"], num_microbatches=1, microbatch_size=64)
    timeline = lab.run(inputs)
    (send,) = spans(timeline, "SEND_B")
    (ring,) = [span for span in spans(timeline, "REDUCE_GRAD") if span.rank == send.rank]
    assert send.start == ring.start
    # A ring of two: 2 (n - 1) / n = 1 times the bytes on each hop, beside the message on the way to the switch.
    short, long = sorted([size(inputs, send), size(inputs, ring)])
    ends = {short: 2 * short / 20e9, long: (short + long) / 20e9}
    assert short < long
    assert send.end - send.start == pytest.approx(ends[size(inputs, send)], rel=1e-9)
    assert ring.end - ring.start == pytest.approx(ends[size(inputs, ring)], rel=1e-9)


def test_computing_is_slower_beside_messages(lab: Any) -> None:
    """Gradients of the last layers travel while backward goes on; a fifth of the device serves them."""
    slowdown = {"overlap_slowdown": {"fraction": "20%", "source": "made up"}}
    topology = lab.box(2, lab.link("device", "switch", "2 GB/s", "1 us"))
    slowed = {**topology, "devices": {"gpu": lab.device(**slowdown)}}
    plan = {"dp": 2, "num_microbatches": 2, "bucket_size": "20 kB", "microbatch_size": 64}
    times = []
    for box in (topology, slowed):
        inputs = lab.compile(lab.mlp, box, **plan)
        timeline = lab.run(inputs)
        compute = [span for span in timeline.spans if span.instruction.stream == "compute"]
        rings = spans(timeline, "REDUCE_GRAD")
        for ring in rings:
            # Two steps over port and port; they never wait for the computing.
            assert ring.end - ring.start == pytest.approx(4e-6 + size(inputs, ring) / 2e9, rel=1e-9)
        flows = [(ring.start + 4e-6, ring.end) for ring in rings]
        shared = sum(max(0.0, min(span.end, end) - max(span.start, start)) for span in compute for start, end in flows)
        times.append((sum(span.end - span.start for span in compute), shared))
    (alone, _), (beside, shared) = times
    assert shared > 0.05 * alone
    assert beside == pytest.approx(alone + 0.2 * shared, rel=1e-9)
