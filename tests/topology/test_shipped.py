"""The files in topologies/: exact numbers, routes counted by hand, and the committed JSON Schema."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from simulator.cost import Calibration
from simulator.engine import simulate
from simulator.load import load, load_topology
from simulator.reports.topology import describe, render
from simulator.topology import Topology, json_schema, properties
from tests.topology.routes import check_routes

Build = Callable[..., Topology]
TOPOLOGIES = Path(__file__).parents[2] / "topologies"
ALL = [
    "dgx-1v",
    "dgx-a100",
    "dgx-b200",
    "dgx-b300",
    "dgx-h100",
    "dgx-h200",
    "emulated",
    "ethernet-100g",
    "ethernet-10g",
    "fat-tree-4to1",
    "gb200-nvl72",
    "gb300-nvl72",
    "hgx-h800",
    "l40s-box",
    "local-cpu",
    "mi300x",
    "mixed-a100-h100",
    "netlab-oversubscribed",
    "netlab-pairs",
    "netlab-ring",
    "netlab-slow-link",
    "netlab-star",
    "netlab-two-switches",
    "netlab-uneven",
    "pcie-box",
    "perlmutter",
    "ring-8",
    "superpod-h100",
    "tpu-v5p",
    "two-node-ethernet",
]
SMALLER = {"superpod-h100": {"nodes": "33"}, "perlmutter": {"nodes": "130"}}
"""Fewer nodes where all pairs are looked at, but more than one pod or group."""

BOXES = ["dgx-1v", "dgx-a100", "dgx-b200", "dgx-b300", "dgx-h100", "dgx-h200", "hgx-h800", "mi300x"]


def test_no_file_is_forgotten() -> None:
    assert sorted(path.stem for path in TOPOLOGIES.glob("*.yaml")) == ALL


def test_the_committed_schema_is_current() -> None:
    committed = (TOPOLOGIES / "topology.schema.json").read_text()
    assert committed == json_schema(), "write json_schema() to topologies/topology.schema.json"


@pytest.mark.parametrize("name", ALL)
def test_every_file_names_its_schema_and_its_sources(name: str, shipped: Build) -> None:
    first = (TOPOLOGIES / f"{name}.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=topology.schema.json"
    topology = shipped(name)
    assert topology.name == name
    assert topology.description
    assert all(topology.sources.values())
    if topology.device(0).backend == "cuda" and name != "tpu-v5p":
        assert {each for protocol in topology.collectives.protocols for each in protocol.where} >= set(topology.scopes)


@pytest.mark.parametrize("name", ALL)
def test_routes_connect_pairs(name: str, shipped: Build) -> None:
    topology = shipped(name, SMALLER.get(name))
    random = np.random.default_rng(1)
    src, dst = random.integers(0, topology.world_size, (2, 500))
    check_routes(topology, src, dst)


@pytest.mark.parametrize("name", ALL)
def test_names_and_ids_of_links_are_unique(name: str, shipped: Build) -> None:
    links = shipped(name, SMALLER.get(name) or ({"nodes": "3"} if name in BOXES else {})).links
    assert len({link.name for link in links}) == len(links)
    assert [links[i] for i in range(len(links))] == list(links)


@pytest.mark.parametrize("name", ALL)
def test_every_file_takes_a_plan_and_is_simulated(name: str) -> None:
    """A step of a small model, replicated on every rank; of large clusters, on two nodes."""
    small = {"nodes": "2"} if name in (*SMALLER, "fat-tree-4to1", "gb200-nvl72", "gb300-nvl72") else {}
    settings = [f"topology.{key}={value}" for key, value in small.items()]
    ranks = load_topology(name, settings).world_size
    dtype = "fp32" if name in ("dgx-1v", "emulated", "local-cpu") or name.startswith("netlab-") else "bf16"
    changes = [f"plan.dtype={dtype}", f"plan.global_batch_size={ranks}", "plan.num_microbatches=1"]
    inputs = load("gpt-tiny", name, "single", [*settings, *changes, "plan.microbatch_size=1", "plan.dp=auto"])
    timeline, _ = simulate(inputs.program, inputs.topology, Calibration())
    assert sum(map(len, timeline.ranks.values())) == ranks
    assert timeline.step_time > 0


def test_dgx_a100(shipped: Build) -> None:
    topology = shipped("dgx-a100", {"nodes": "2"})
    device = topology.device(15)
    assert (topology.world_size, topology.num_nodes, topology.devices_per_node) == (16, 2, 8)
    assert (topology.node(15), topology.local_rank(15), topology.host(15).index) == (1, 7, 1)
    assert device.memory == 80 * 2**30
    assert device.memory_bandwidth == pytest.approx(2.039e12)
    assert device.peak == {"bf16": 312e12, "fp16": 312e12, "tf32": 156e12, "fp32": 19.5e12}
    assert topology.host(0).cores is None
    inside, outside = topology.route(0, 1), topology.route(3, 12)
    assert (len(inside.links), topology.bottleneck(inside)) == (2, 300e9)
    assert inside.latency == pytest.approx(2e-6)
    # GPU to its own card to the fabric and down to the other GPU: 2 us + 1 us of the fabric + 2 us.
    assert [topology.links[i].name for i in outside.links] == ["node0/device3->fabric", "fabric->node1/device4"]
    assert topology.bottleneck(outside) == 25e9
    assert outside.latency == pytest.approx(5e-6)


def test_dgx_h100(shipped: Build) -> None:
    topology = shipped("dgx-h100", {"nodes": "2"})
    assert topology.bottleneck(topology.route(0, 7)) == 450e9
    assert topology.bottleneck(topology.route(0, 8)) == 50e9
    assert topology.device(0).peak["bf16"] == pytest.approx(989.4e12)
    assert topology.device(0).peak["fp8"] == pytest.approx(1978.9e12)


def test_a_dgx_1_forwards_over_its_cpus_what_no_nvlink_joins(shipped: Build) -> None:
    topology = shipped("dgx-1v")
    assert [topology.bottleneck(topology.route(0, rank)) for rank in range(1, 5)] == [25e9, 25e9, 50e9, 50e9]
    far = [topology.links[i].destination for i in topology.route(0, 5).links]
    assert far == [f"node0/{name}" for name in ("pcie0", "cpu0", "cpu1", "pcie2", "device5")]
    nvlinks = [
        link.bandwidth
        for link in topology.links
        if {"device"} == {end[6:12] for end in (link.source, link.destination)}
    ]
    assert sum(nvlinks) == 8 * 6 * 25e9


def test_local_cpu_shares_its_cores(shipped: Build) -> None:
    topology = shipped("local-cpu", {"node.count": "4"})
    assert topology.world_size == 4
    assert topology.device(3).backend == "cpu"
    assert (topology.host(3).cores, topology.host(3).memory) == (2, 24 * 2**30)
    assert topology.route(1, 3).latency == pytest.approx(300e-6)


def test_emulated_devices_share_nothing(shipped: Build) -> None:
    topology = shipped("emulated")
    assert topology.world_size == 8
    assert {device.backend for device in topology.devices} == {"emulated"}
    assert topology.host(7).cores is None
    assert topology.route(0, 7) == shipped("local-cpu", {"node.count": "8"}).route(0, 7)


def test_two_nodes_share_one_card_each(shipped: Build) -> None:
    topology = shipped("two-node-ethernet")
    ways = [topology.route(i, 4 + i) for i in range(4)]
    assert [topology.links[i].name for i in ways[0].links] == [
        "node0/device0->node0/pcie",
        "node0/pcie->fabric",
        "fabric->node1/pcie",
        "node1/pcie->node1/device0",
    ]
    # All four cross the same two uplinks, and nothing else in common.
    assert set(ways[0].links) & set(ways[1].links) == set(ways[2].links) & set(ways[3].links) == set(ways[0].links[1:3])
    assert topology.bottleneck(ways[0]) == 25e9 / 8


def test_ring_takes_the_short_way_round(shipped: Build) -> None:
    topology = shipped("ring-8")
    hops = [len(topology.route(0, rank).links) for rank in range(8)]
    assert hops == [0, 1, 2, 3, 4, 3, 2, 1]
    # Opposite ranks have two ways of the same length; all go clockwise, so that every link carries four such flows.
    used = [i for rank in range(8) for i in topology.route(rank, (rank + 4) % 8).links]
    assert sorted(used) == sorted(list(range(8)) * 4)


@pytest.mark.parametrize("name", ALL)
def test_description_is_plain(name: str, shipped: Build) -> None:
    topology = shipped(name, {"nodes": "2"} if name in BOXES else {})
    values = json.loads(json.dumps(describe(topology)))
    assert sum(links["count"] for links in values["links"]) == len(topology.links)
    assert sum(device["count"] for device in values["devices"]) == topology.world_size
    assert (values["paths"][0]["path"] == "same node") == (topology.devices_per_node > 1)
    assert values["diameter"]["hops"] >= max(len(path["links"]) for path in values["paths"])


# Bisections and diameters worked out from the data sheets: half of the cards, unless the fabric is narrower.
@pytest.mark.parametrize(
    ("name", "bisection", "oversubscription", "hops"),
    [
        ("dgx-a100", 4 * 300e9, 1, 2),
        ("gb200-nvl72", 36 * 900e9, 1, 2),
        ("mi300x", 16 * 64e9, 7 * 4 / 16, 1),  # 16 cables between the halves, 7 at each GPU
        ("l40s-box", 2.4e9, 4 * 31.5 / 2.4, 5),
        ("ring-8", 2 * 150e9, 4, 4),
        ("pcie-box", 2 * 31.5e9, 1, 2),
        ("ethernet-10g", 2 * 10e9 / 8, 1, 4),
        ("two-node-ethernet", 25e9 / 8, 1, 4),
        ("tpu-v5p", 2 * 16 * 100e9, 6, 6),
        ("fat-tree-4to1", 8 * 8 * 50e9 / 4, 4, 4),
        ("superpod-h100", 32 * 8 * 50e9, 1, 6),
        ("perlmutter", 23 * 25e9, 128 * 4 / 23, 5),
        ("mixed-a100-h100", 2 * 8 * 25e9, 1, 2),
    ],
)
def test_the_whole(name: str, bisection: float, oversubscription: float, hops: int, shipped: Build) -> None:
    topology = shipped(name)
    assert properties.bisection(topology) == pytest.approx(bisection)
    assert properties.oversubscription(topology) == pytest.approx(oversubscription)
    assert properties.diameter(topology).hops == hops


def test_tables_show_every_unit(shipped: Build) -> None:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(render(shipped("two-node-ethernet")))
    text = capture.get()
    for shown in ["8 ranks on 2 nodes", "80 GiB", "312 TFLOP/s", "31.5 GB/s", "24 us", "3.125 GB/s", "PCI Express 4.0"]:
        assert shown in text
