"""Clusters that are not as new: slow links, slow devices, nodes of several kinds."""

from collections.abc import Callable

import numpy as np
import pytest

from simulator.cost import Calibration
from simulator.engine import simulate
from simulator.errors import InputError
from simulator.load import load
from simulator.topology import Topology
from tests.topology.routes import check_routes

Build = Callable[..., Topology]


def refusal(shipped: Build, name: str, **keys: str) -> str:
    with pytest.raises(InputError) as raised:
        shipped(name, keys)
    return str(raised.value)


def bandwidths(topology: Topology) -> dict[str, float]:
    return {link.name: link.bandwidth for link in topology.links}


def test_a_degraded_link_is_one_direction(shipped: Build) -> None:
    name = "node0/device1->node0/nvswitch"
    before = bandwidths(shipped("dgx-a100"))
    topology = shipped("dgx-a100", {"degrade": f"[{{link: {name}, bandwidth: 50%}}]"})
    after = bandwidths(topology)
    assert {link for link in before if before[link] != after[link]} == {name}
    assert after[name] == before[name] / 2
    assert topology.bottleneck(topology.route(1, 0)) == 150e9
    assert topology.bottleneck(topology.route(0, 1)) == 300e9
    ids = np.arange(len(topology.links))
    assert topology.bandwidths(ids).tolist() == list(after.values())
    assert sum(count for _, count, _, _ in topology.links.classes()) == len(ids)


def test_patterns_mean_many_and_entries_multiply(shipped: Build) -> None:
    entries = '[{link: "node1/*->fabric", bandwidth: 50%}, {link: "*device3->fabric", bandwidth: 10%}]'
    after = bandwidths(shipped("dgx-a100", {"nodes": "2", "degrade": entries}))
    for node in range(2):
        for device in range(8):
            factor = (0.5 if node == 1 else 1.0) * (0.1 if device == 3 else 1.0)
            assert after[f"node{node}/device{device}->fabric"] == pytest.approx(25e9 * factor)
            assert after[f"fabric->node{node}/device{device}"] == 25e9


def test_links_of_graphs_and_fabrics_have_names_too(shipped: Build) -> None:
    ring = shipped("ring-8", {"degrade": '[{link: "gpu7->gpu0", bandwidth: 20%}]'})
    assert ring.bottleneck(ring.route(7, 1)) == 30e9
    tree = shipped("fat-tree-4to1", {"degrade": '[{link: "spine->leaf2", bandwidth: 25%}]'})
    assert tree.bottleneck(tree.route(0, 8 * 8)) == min(50e9, 400e9 / 4)
    torus = shipped("tpu-v5p", {"degrade": '[{link: "node5/device0->node21/device0", bandwidth: 25%}]'})
    assert torus.bottleneck(torus.route(5, 21)) == 25e9


def test_slow_devices(shipped: Build) -> None:
    entries = '[{device: node1/device5, speed: 80%}, {device: "node0/*", speed: 50%}]'
    topology = shipped("dgx-a100", {"nodes": "2", "slow": entries})
    speeds = [device.speed for device in topology.devices]
    assert speeds == [0.5] * 8 + [1.0] * 5 + [0.8] + [1.0] * 2
    assert shipped("ring-8", {"slow": "[{device: gpu3, speed: 90%}]"}).device(3).speed == 0.9


@pytest.mark.parametrize(
    ("name", "key", "entry", "message"),
    [
        (
            "dgx-a100",
            "degrade",
            '[{link: "node0/device1->node0/nvswich", bandwidth: 50%}]',
            'topology.degrade.0.link: "node0/device1->node0/nvswich" names nothing here; '
            "did you mean node0/device1->node0/nvswitch?",
        ),
        ("dgx-a100", "degrade", '[{link: "node7/*", bandwidth: 50%}]', '"node7/*" names nothing here; no node'),
        ("ring-8", "degrade", '[{link: "gpu0->gpu2", bandwidth: 50%}]', "did you mean gpu"),
        ("dgx-a100", "slow", "[{device: node0/device8, speed: 80%}]", "topology.slow.0.device: "),
        ("dgx-a100", "slow", "[{device: node9/device0, speed: 80%}]", "names nothing here; no node has that number"),
        ("dgx-a100", "degrade", '[{link: "*", bandwidth: 0%}]', 'topology.degrade.0.bandwidth: "0%" is zero'),
        ("dgx-a100", "slow", '[{device: "*", speed: 120%}]', "topology.slow.0.speed"),
    ],
)
def test_unknown_names_are_errors(name: str, key: str, entry: str, message: str, shipped: Build) -> None:
    assert message in refusal(shipped, name, **{key: entry})


def test_one_of_very_many_is_named(shipped: Build) -> None:
    """In 0.1 s; were each of the 102,400 links looked at for each other, not before the test's time is up."""
    entries = '[{link: "node12000/device1->node12000/nvswitch", bandwidth: 50%}]'
    topology = shipped("dgx-a100", {"nodes": "12800", "degrade": entries})
    assert topology.bottleneck(topology.route(96_001, 96_000)) == 150e9


def test_a_straggler_slows_the_step(shipped: Build) -> None:
    changes = ["plan.dp=auto", "plan.num_microbatches=2"]
    plain = load("gpt-tiny", "pcie-box", "dp2", changes)
    slow = load("gpt-tiny", "pcie-box", "dp2", [*changes, "topology.slow=[{device: node0/device2, speed: 50%}]"])
    times = [simulate(each.program, each.topology, Calibration())[0].step_time for each in (plain, slow)]
    assert times[0] * 1.1 < times[1] < times[0] * 2.01


MIXED = """\
nodes:
  - {count: 2, node: {device: gpu, count: 2, switches: [sw], links: [LINK], uplinks: [CARD]}}
  - count: 1
    node: {device: old, count: 4, switches: [hub], host: {cores: 8, memory: 64 GB}, links: [OTHER], uplinks: [CARD]}
fabric: {kind: switch, latency: 1 us, source: x}
"""
NUMBERS = "bandwidth: 8 GB/s, latency: 1 us, source: x"


def mixed(built: Build, **overrides: str) -> Topology:
    text = MIXED.replace("LINK", f"{{between: [device, sw], {NUMBERS}}}")
    text = text.replace("OTHER", f"{{between: [device, hub], {NUMBERS}}}")
    text = text.replace("CARD", f"{{from: device, {NUMBERS}}}")
    old = (
        "  old: {memory: 40 GB, memory_bandwidth: 1 TB/s, peak: {bf16: 5 TFLOP/s}, launch_overhead: 5 us, source: x}\n"
    )
    return built(old + text, overrides)


def test_nodes_may_differ(built: Build) -> None:
    topology = mixed(built)
    assert (topology.world_size, topology.num_nodes, topology.devices_per_node) == (8, 3, 4)
    assert [topology.node(rank) for rank in range(8)] == [0, 0, 1, 1, 2, 2, 2, 2]
    assert [topology.local_rank(rank) for rank in range(8)] == [0, 1, 0, 1, 0, 1, 2, 3]
    assert [topology.local_world_size(rank) for rank in (0, 3, 4)] == [2, 2, 4]
    assert [device.kind for device in topology.devices] == ["gpu"] * 4 + ["old"] * 4
    assert [host.cores for host in topology.hosts] == [None, None, 8]
    assert [topology.links[i].name for i in topology.route(1, 6).links] == [
        "node0/device1->fabric",
        "fabric->node2/device2",
    ]
    assert topology.route(6, 7).links != topology.route(2, 3).links
    ranks = np.arange(8)
    check_routes(topology, np.repeat(ranks, 8), np.tile(ranks, 8))


def test_errors_name_the_group(built: Build) -> None:
    with pytest.raises(InputError, match=r"topology\.nodes\.1\.node\.device: \"odl\" is not under devices"):
        mixed(built, **{"nodes.1.node.device": "odl"})
    with pytest.raises(InputError, match=r"topology\.node: stands beside a list of nodes"):
        mixed(built, node="{device: gpu, count: 1}")
    with pytest.raises(InputError, match=r"2000000 nodes x 2 devices \+ 1 nodes x 4 devices = 4000004 ranks"):
        mixed(built, **{"nodes.0.count": "2000000"})
    with pytest.raises(InputError, match=r"topology\.nodes: 0 is less than 1"):
        mixed(built, nodes="0")
