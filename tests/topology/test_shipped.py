"""The files in topologies/: exact numbers, routes counted by hand, and the committed JSON Schema."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from simulator.reports.topology import describe, render
from simulator.topology import Topology, json_schema

Build = Callable[..., Topology]
TOPOLOGIES = Path(__file__).parents[2] / "topologies"
ALL = ["dgx-a100", "dgx-h100", "emulated", "local-cpu", "pcie-box", "ring-8", "two-node-ethernet"]


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


@pytest.mark.parametrize("name", ALL)
def test_routes_connect_every_pair(name: str, shipped: Build) -> None:
    topology = shipped(name)
    ranks = range(topology.world_size)
    for src in ranks:
        for dst in ranks:
            route = topology.route(src, dst)
            links = [topology.links[i] for i in route.links]
            ends = [topology.router.endpoint(src), topology.router.endpoint(dst)]
            assert [link.source for link in links] + ends[1:] == ends[:1] + [link.destination for link in links]
            assert route.latency == pytest.approx(sum(link.latency for link in links))


@pytest.mark.parametrize("name", ALL)
def test_names_and_ids_of_links_are_unique(name: str, shipped: Build) -> None:
    links = shipped(name, {"nodes": "3"} if name.startswith("dgx") else {}).links
    assert len({link.name for link in links}) == len(links)
    assert [links[i] for i in range(len(links))] == list(links)


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
    topology = shipped(name, {"nodes": "2"} if name.startswith("dgx") else {})
    values = json.loads(json.dumps(describe(topology)))
    assert sum(links["count"] for links in values["links"]) == len(topology.links)
    assert sum(device["count"] for device in values["devices"]) == topology.world_size
    assert values["paths"][0]["path"] == "same node"
    assert ("other node" in [path["path"] for path in values["paths"]]) == (topology.num_nodes > 1)


def test_tables_show_every_unit(shipped: Build) -> None:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(render(shipped("two-node-ethernet")))
    text = capture.get()
    for shown in ["8 ranks on 2 nodes", "80 GiB", "312 TFLOP/s", "31.5 GB/s", "24 us", "3.125 GB/s", "PCI Express 4.0"]:
        assert shown in text
