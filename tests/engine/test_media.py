"""Messages of a plan that have the links to themselves take what `plancast collective` says of them."""

from typing import Any

import numpy as np
import pytest

from simulator.cost import Calibration
from simulator.cost.group import Group, collective_seconds
from simulator.engine import simulate
from simulator.engine.families import Family
from simulator.engine.system import system_of
from simulator.load import Inputs, load, load_topology
from simulator.program.instructions import Kind, Stream
from simulator.program.program import Message
from simulator.results.timeline import Span
from simulator.topology import Topology

CLUSTERS = [
    ("dgx-a100", "topology.nodes=2"),
    ("dgx-h100", "topology.nodes=1"),
    ("dgx-h100", "topology.nodes=4"),
    ("fat-tree-4to1", "topology.nodes=16"),
    ("gb200-nvl72", "topology.node.count=16"),
    ("mixed-a100-h100", "plan.num_microbatches=1"),
    ("pcie-box", "topology.node.count=8"),
    ("ring-8", "plan.num_microbatches=1"),
    ("tpu-v5p", "plan.num_microbatches=1"),
    ("two-node-ethernet", "topology.nodes=3"),
]


def spans(inputs: Inputs, *kinds: Kind) -> list[Span]:
    timeline, _ = simulate(inputs.program, inputs.topology, Calibration())
    return [span for span in timeline.of(0) if span.instruction.kind in kinds]


def meets(one: Span, other: Span) -> bool:
    return one is not other and one.start < other.end and other.start < one.end


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
@pytest.mark.parametrize(("name", "setting"), CLUSTERS)
def test_sums_and_gatherings_of_a_plan(name: str, setting: str, sharding: str) -> None:
    world = load_topology(name, [setting] if setting.startswith("topology") else []).world_size
    batch = ["plan.microbatch_size=1", "plan.num_microbatches=1", "plan.dp=auto", f"plan.global_batch_size={world}"]
    late = ["plan.dtype=bf16", "plan.bucket_size=2 MiB", "plan.dp_overlap=false", f"plan.sharding={sharding}"]
    inputs = load("gpt-tiny", name, "single", [setting, *batch, *late])
    found = spans(inputs, Kind.REDUCE_GRAD, Kind.UNSHARD)
    # Blocks are gathered while others' gradients are still summed; the first and the last message are alone.
    apart = [span for span in found if not any(meets(span, other) for other in found)]
    assert len(apart) >= 2
    for span in apart:
        message = inputs.program.message(span.instruction)
        expected = collective_seconds(inputs.topology, range(world), message.operation, message.size)
        assert span.end - span.start == pytest.approx(expected, rel=1e-9), span.instruction


@pytest.mark.parametrize("width", [2, 4, 8])
def test_sums_inside_a_node_and_messages_between_nodes(width: int) -> None:
    settings = ["topology.nodes=2", f"plan.tp={width}", "plan.pp=2", "plan.dp=auto", "plan.axes=[pp,dp,tp]"]
    inputs = load(
        "gpt-tiny", "dgx-h100", "single", [*settings, "plan.num_microbatches=1", "plan.optimizer_barrier=true"]
    )
    for kinds, ranks in (((Kind.TP_F, Kind.TP_B), range(width)), ((Kind.SEND_F,), (0, 8))):
        for span in spans(inputs, *kinds):
            message = inputs.program.message(span.instruction)
            expected = collective_seconds(inputs.topology, ranks, message.operation, message.size)
            assert span.end - span.start == pytest.approx(expected, rel=1e-9), span.instruction


def alone(topology: Topology, ranks: list[int], message: Message) -> float:
    """Seconds of a message on a medium that is all there is."""
    lanes = ((Stream.DP, -1),) * len(ranks)
    system = system_of([Family(Stream.DP, np.array([ranks]), lanes, (message,))], topology)
    seconds = 0.0
    for transfer in system.transfers(0, message):
        weights = system.weights(0, transfer.leg)
        flowing = max((weight / system.capacities[resource] for resource, weight in weights.items()), default=0.0)
        seconds += transfer.latency + transfer.size * flowing
    return seconds


@pytest.mark.parametrize("operation", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send"])
@pytest.mark.parametrize(("name", "setting"), [case for case in CLUSTERS if "plan" not in case[1]])
def test_every_operation(name: str, setting: str, operation: str) -> None:
    topology = load_topology(name, [setting])
    for ranks in ([0, 5], [1, 0]) if operation == "send" else (list(range(topology.world_size)), [1, 2, 5, 7]):
        for size in (4.0, 1e5, 3e8):
            expected = collective_seconds(topology, ranks, operation, size)
            assert alone(topology, ranks, Message(operation, size)) == pytest.approx(expected, rel=1e-9)


def test_the_topology_may_choose(lab: Any) -> None:
    seconds = {}
    for choice in ("ring", "halving_doubling", "direct"):
        box = {**lab.box(4), "collectives": {"choice": {"all_reduce": choice}}}
        inputs = lab.compile(lab.mlp, box, dp=4, num_microbatches=1, dp_overlap=False)
        (span,) = spans(inputs, Kind.REDUCE_GRAD)
        size = inputs.program.message(span.instruction).size
        seconds[choice] = span.end - span.start - 2 * 3 / 4 * size / 20e9
    # All move 2 (n - 1) / n of the bytes; a route's 4 us pass 2 (n - 1), 2 log n, or 2 times.
    assert seconds == pytest.approx({"ring": 24e-6, "halving_doubling": 16e-6, "direct": 8e-6}, rel=1e-6)


def test_a_larger_message_may_take_another_algorithm(lab: Any) -> None:
    card = {"from": "device", "bandwidth": "2 GB/s", "latency": "2 us", "source": "made up"}
    fabric = {"kind": "switch", "latency": "1 us", "source": "made up"}
    boxes = {**lab.box(8, uplinks=[card]), "nodes": 4, "fabric": fabric}
    wide = {**lab.mlp, "hidden_sizes": [16, 4096, 4096]}
    inputs = lab.compile(wide, boxes, dp=32, num_microbatches=1, dp_overlap=False, bucket_size="50 kB")
    group = Group(inputs.topology, range(32))
    chosen = set()
    for span in spans(inputs, Kind.REDUCE_GRAD):
        option = group.choose("all_reduce", inputs.program.message(span.instruction).size)
        chosen.add(option.algorithm)
        assert span.end - span.start == pytest.approx(option.seconds, rel=1e-9)
    assert chosen == {"tree", "ring"}


def test_rings_share_an_oversubscribed_leaf(lab: Any) -> None:
    """Two rings over four nodes, each on its own cards, meet on the trunks between two leaves."""
    card = {"from": "device", "bandwidth": "10 GB/s", "latency": "2 us", "source": "made up"}
    # A leaf has 2 nodes x 2 cards below; a quarter of their 40 GB/s goes up, which each ring gets half of.
    fabric = {"kind": "fat_tree", "nodes_per_leaf": 2, "oversubscription": 4, "latency": "1 us", "source": "made up"}
    topology = {**lab.box(2, uplinks=[card]), "nodes": 4, "fabric": fabric, **lab.rings}
    inputs = lab.compile(lab.gpt, topology, dp=4, tp=2, num_microbatches=1, dp_overlap=False)
    (span,) = spans(inputs, Kind.REDUCE_GRAD)
    size = inputs.program.message(span.instruction).size
    # Card, leaf, spine, leaf, card: 2 us at either end and 1 us for each of three switches.
    assert span.end - span.start == pytest.approx(6 * 7e-6 + 6 / 4 * size / 5e9, rel=1e-9)
