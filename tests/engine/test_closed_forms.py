"""What can be computed by hand: the bubble of a pipeline and the times of collectives on a ring."""

from collections.abc import Callable
from typing import Any

import pytest

from simulator.cost import Calibration
from simulator.cost.calibration import BACKWARD, FORWARD, INNER_GRAD, INPUT_GRAD, WEIGHT_GRAD, WEIGHT_ONLY, layer_key
from simulator.program.instructions import Kind
from simulator.results import Timeline, measure

Times = tuple[float, float, float]
"""Forward, input gradient, weight gradient of one stage."""

FORWARD_TIME, BACKWARD_TIME = 1.0, 2.0


def pipeline(lab: Any, stages: int, microbatches: int, schedule: str, **changes: Any) -> Any:
    """Equal layers, one a stage, and links that cost nothing."""
    layers = [{"name": f"layer{index}", "kind": "linear", "out_features": 8} for index in range(stages)]
    model = {"name": "equal", "input": {"shape": [8]}, "layers": layers, "loss": "mse"}
    plan = {"pp": stages, "num_microbatches": microbatches, "schedule": schedule, **changes}
    named = {"stages": [layer["name"] for layer in layers]} if stages > 1 else {}
    return lab.compile(model, lab.box(stages, lab.free_link("device", "switch")), **plan, **named)


def equal_stages(inputs: Any, parts: Times = (1.0, 1.0, 1.0)) -> Calibration:
    """Times of layers that make all stages equal: the loss and the update are free."""
    forward, of_input, of_weights = parts
    times = {
        FORWARD: forward,
        **dict.fromkeys((BACKWARD, WEIGHT_ONLY), of_input + of_weights),
        **dict.fromkeys((INPUT_GRAD, INNER_GRAD), of_input),
        WEIGHT_GRAD: of_weights,
    }
    graph, plan = inputs.program.graph, inputs.plan
    keys = {
        node: layer_key(node.layer, graph.input_shapes(node), plan.microbatch_size, plan.dtype) for node in graph.nodes
    }
    free = dict.fromkeys(times, 0.0)
    return Calibration(
        layers={key: free if node is graph.loss else times for node, key in keys.items()},
        updates={"sgd fp32": (0.0, 0.0)},
    )


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize("stages", range(1, 9))
def test_bubble_of_equal_stages(lab: Any, schedule: str, stages: int) -> None:
    for microbatches in range(1, 33):
        inputs = pipeline(lab, stages, microbatches, schedule)
        metrics = measure(lab.run(inputs, equal_stages(inputs)))
        steps = microbatches + stages - 1
        assert metrics.step_time == pytest.approx(steps * (FORWARD_TIME + BACKWARD_TIME), rel=1e-9)
        assert metrics.bubble_fraction == pytest.approx((stages - 1) / steps, rel=1e-9, abs=1e-12)
        assert metrics.bubble_overhead == pytest.approx((stages - 1) / microbatches, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "with_barrier", "without"),
    [
        ("1f1b", lambda f, i, w: f + i + w, lambda f, i, w: f + i + w),
        ("zb_h1", lambda f, i, w: f + i - w, lambda f, i, w: f + i - w),
        ("zb_h2", lambda f, i, w: f, lambda f, i, w: f + i - 2 * w),
    ],
    ids=["1f1b", "zb_h1", "zb_h2"],
)
@pytest.mark.parametrize(("ranks", "microbatches"), [(4, 8), (4, 16), (8, 32)])
@pytest.mark.parametrize("times", [(1.0, 1.0, 1.0), (1.0, 1.3, 0.7)])
def test_zero_bubble_pays_without_the_barrier(
    lab: Any,
    schedule: str,
    with_barrier: Callable[..., float],
    without: Callable[..., float],
    ranks: int,
    microbatches: int,
    times: Times,
) -> None:
    """Qi et al. 2023 (arXiv 2401.10241), tables 1 and 2: idle time of a step, a multiple of p - 1."""
    work = microbatches * sum(times)
    for barrier, idle in ((True, with_barrier), (False, without)):
        inputs = pipeline(lab, ranks, microbatches, schedule, optimizer_barrier=barrier)
        step = lab.run(inputs, equal_stages(inputs, times)).step_time
        assert step - work == pytest.approx((ranks - 1) * idle(*times), abs=1e-9)


@pytest.mark.parametrize(("schedule", "in_flight"), [("gpipe", [6, 6, 6, 6]), ("1f1b", [4, 3, 2, 1])])
def test_microbatches_in_flight(lab: Any, schedule: str, in_flight: list[int]) -> None:
    inputs = pipeline(lab, 4, 6, schedule)
    for instructions, expected in zip(inputs.program.lists, in_flight, strict=True):
        held = peak = 0
        for instruction in instructions:
            held += {Kind.F: 1, Kind.B: -1}.get(instruction.kind, 0)
            peak = max(peak, held)
        assert peak == expected


@pytest.mark.parametrize("overlap", [True, False])
def test_a_rank_waits_for_what_it_sent_unless_messages_overlap(lab: Any, overlap: bool) -> None:
    layers = [{"name": f"layer{index}", "kind": "linear", "out_features": 8} for index in range(2)]
    model = {"name": "two", "input": {"shape": [8]}, "layers": layers, "loss": "mse"}
    box = lab.box(2, lab.link("device", "switch", "1000 EB/s", "0.1 s"))  # 0.2 s from device to device
    plan = {"pp": 2, "num_microbatches": 2, "schedule": "gpipe", "stages": ["layer0", "layer1"]}
    inputs = lab.compile(model, box, **plan, p2p_overlap=overlap)
    starts = {str(span.instruction): span.start for span in lab.run(inputs, equal_stages(inputs)).of(0)}
    assert starts["0F1.0"] == pytest.approx(1.0 if overlap else 1.2)


RING = {"bandwidth": 150e9, "latency": 1e-6}
"""The links of topologies/ring-8.yaml."""


@pytest.mark.parametrize("sharding", ["none", "zero1", "fsdp"])
@pytest.mark.parametrize("width", [8, 200, 4096])
def test_collectives_on_a_ring(lab: Any, width: int, sharding: str) -> None:
    """2 (n - 1) (alpha + S / n beta), and half of it for an all-gather or a reduce-scatter (Thakur et al. 2005).

    Cables carry both directions at once, so two rings share the bytes, one each way round.
    """
    links = [lab.link(f"d{index}", f"d{(index + 1) % 8}", "150 GB/s", "1 us") for index in range(8)]
    topology = lab.graph(["fast"] * 8, links)
    topology["graph"]["transit"] = True
    model = {"name": "one", "input": {"shape": [width]}, "layers": [{"kind": "linear", "out_features": width}]}
    plan = {"dp": 8, "bucket_size": "1 GiB", "dp_overlap": False, "sharding": sharding}
    timeline = lab.run(lab.compile(model, topology, **plan))
    times = {span.instruction.kind: span.end - span.start for span in timeline.of(0)}
    size = 4 * (width * width + width)
    steps = 7 * (RING["latency"] + size / 2 / (8 * RING["bandwidth"]))
    if sharding == "none":
        assert times[Kind.REDUCE_GRAD] == pytest.approx(2 * steps, rel=1e-9)
        assert Kind.UNSHARD not in times
        return
    assert times[Kind.REDUCE_GRAD] == pytest.approx(steps, rel=1e-9)
    if sharding == "fsdp":
        assert times[Kind.UNSHARD] == pytest.approx(steps, rel=1e-9)
        assert times[Kind.RESHARD] == 0
    else:
        assert times[Kind.GATHER_PARAM] == pytest.approx(steps, rel=1e-9)
        assert timeline.step_time == pytest.approx(max(span.end for span in timeline.of(0)))


def test_updated_parameters_are_gathered_after_the_update_or_beside_the_next_forward(lab: Any) -> None:
    """Gathered early, only the bucket that forward reads first is waited for, on links that are fast enough."""
    fast = lab.box(4, lab.link("device", "switch", "1 TB/s", "10 ns"))
    plan = {"dp": 4, "num_microbatches": 1, "microbatch_size": 64, "bucket_size": "1 B", "sharding": "zero1"}
    late, early = (lab.run(lab.compile(lab.mlp, fast, **plan, overlap_param_gather=way)) for way in (False, True))
    gathers = [span.end - span.start for span in late.of(0) if span.instruction.kind is Kind.GATHER_PARAM]
    assert len(gathers) > 1
    updated = next(span.end for span in late.of(0) if span.instruction.kind is Kind.OPTIM)
    assert late.step_time == pytest.approx(updated + sum(gathers), rel=1e-9)
    assert early.step_time == pytest.approx(updated + gathers[0], rel=1e-9)


@pytest.mark.parametrize("early", [False, True])
def test_a_step_begins_with_gathered_parameters(lab: Any, early: bool) -> None:
    """Steps that overlap, as no barrier keeps ranks together, still read what was updated."""
    plan = {"pp": 2, "dp": 2, "num_microbatches": 4, "sharding": "zero1", "optimizer_barrier": False}
    timeline = lab.run(lab.compile(lab.gpt, lab.box(4), **plan, overlap_param_gather=early))
    for rank in timeline.ranks:
        spans = timeline.of(rank)
        gathered = [span for span in spans if span.instruction.kind is Kind.GATHER_PARAM]
        updated = max(span.end for span in spans if span.instruction.kind is Kind.OPTIM)
        computes = min(span.start for span in spans if span.instruction.kind is Kind.F)
        if early:
            assert min(span.start for span in gathered) >= updated - timeline.step_time - 1e-12
            assert computes >= min(span.end for span in gathered) - 1e-12
        else:
            assert computes >= max(span.end for span in gathered) - timeline.step_time - 1e-12


def test_parts_are_summed_over_the_copies(lab: Any) -> None:
    """Four ranks, two copies of two parts: S / 2B for a reduce-scatter of S over links of B, and S / 2B for the sums.

    A ring of two moves half of a buffer each way in each of its steps: one step for a reduce-scatter of S, and two for
    an all-reduce of the part, S / 2.
    """
    model = {
        "name": "one",
        "input": {"shape": [256]},
        "layers": [{"kind": "linear", "out_features": 256, "bias": False}],
    }
    box = lab.box(4, lab.link("device", "switch", "10 GB/s", "0 s"))
    plan = {"dp": 4, "sharding": "hsdp", "dp_shard": 2, "dp_overlap": False}
    timeline = lab.run(lab.compile(model, box, **plan))
    size = 4 * 256 * 256
    times = {span.instruction.kind: span.end - span.start for span in timeline.of(0)}
    assert times[Kind.UNSHARD] == pytest.approx(size / 2 / 10e9, rel=1e-9)
    assert times[Kind.REDUCE_GRAD] == pytest.approx(size / 2 / 10e9, rel=1e-9)
    assert times[Kind.REDUCE_COPIES] == pytest.approx(2 * size / 4 / 10e9, rel=1e-9)


def test_gathering_hides_behind_the_block_before(lab: Any) -> None:
    """With links this fast only the first block's gathering is waited for; then each comes one block early."""
    plan = {"dp": 4, "num_microbatches": 1, "microbatch_size": 64, "dp_overlap": False}
    fast = lab.box(4, lab.link("device", "switch", "1 TB/s", "10 ns"))
    alone, sharded = (lab.run(lab.compile(lab.mlp, fast, **plan, sharding=way)) for way in ("none", "fsdp"))
    first = next(span for span in sharded.of(0) if span.instruction.kind is Kind.UNSHARD)

    def computed(timeline: Timeline) -> float:
        return max(span.end for span in timeline.of(0) if span.instruction.kind is Kind.B)

    assert computed(sharded) == pytest.approx(computed(alone) + first.end - first.start, rel=1e-9)


def test_parameters_are_gathered_after_the_update_of_the_step_before(lab: Any) -> None:
    plan = {"pp": 2, "dp": 2, "num_microbatches": 4, "sharding": "fsdp", "optimizer_barrier": False}
    timeline = lab.run(lab.compile(lab.gpt, lab.box(4), **plan))
    for rank in timeline.ranks:
        gathered = min(span.issued for span in timeline.of(rank) if span.instruction.kind is Kind.UNSHARD)
        updated = max(span.end for span in timeline.of(rank) if span.instruction.kind is Kind.OPTIM)
        assert gathered == pytest.approx(updated - timeline.step_time, rel=1e-9)
