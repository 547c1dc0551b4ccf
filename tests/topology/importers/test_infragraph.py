"""InfraGraph: read with everything that is written out, and written so that it is read as the same cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.errors import InputError
from simulator.load import load_topology
from simulator.reports.yaml_text import yaml_text
from simulator.topology import Topology
from simulator.topology.exporters.infragraph import to_infragraph
from simulator.units import parse_bandwidth, parse_seconds

Import = Callable[..., Topology]
Refused = Callable[..., str]
FIXTURES = Path(__file__).parent / "fixtures"
NVLINK = (parse_bandwidth("300 GB/s"), parse_seconds("1 us"))
PCIE = (parse_bandwidth("31.5 GB/s"), parse_seconds("1.5 us"))
FACTS: dict[str, Any] = {"device": "A100-SXM-80GB", "links": {"nvlink": NVLINK, "pcie": PCIE}}


def way(topology: Topology, src: int, dst: int) -> list[str]:
    return [topology.links[i].destination for i in topology.route(src, dst).links]


def test_a_clos_fabric(imported: Import) -> None:
    topology = imported("infragraph", "infragraph-clos.yaml", **FACTS)
    assert [topology.node(rank) for rank in range(4)] == [0, 0, 1, 1]
    assert way(topology, 0, 1) == ["host.0.nvlsw.0", "host.0.xpu.1"]  # NVLink is wider than PCIe, and as near
    assert topology.bottleneck(topology.route(0, 1)) == NVLINK[0]
    leaves = ["host.0.pciesw.0", "leafsw.0.asic.0", "spinesw.0.asic.0", "leafsw.1.asic.0", "host.1.pciesw.0"]
    assert way(topology, 0, 2) == [*leaves, "host.1.xpu.0"]
    links = {link.name: link for link in topology.links}
    card = links["host.0.pciesw.0->leafsw.0.asic.0"]
    assert card.bandwidth == 2 * parse_bandwidth("100 Gb/s")  # two cards and their ports are a trunk
    assert card.latency == pytest.approx(parse_seconds("3 us"))  # 1.5 us of PCIe, 1.5 us of Ethernet
    assert links["leafsw.0.asic.0->spinesw.0.asic.0"].bandwidth == 2 * parse_bandwidth("400 Gb/s")
    assert len(links) == 2 * (4 + 4 + 2 + 2)


def test_a_link_without_bandwidth_is_asked_for(imported: Import) -> None:
    with pytest.raises(InputError, match=r"no bandwidth .* to pcie; write --link 'pcie=BANDWIDTH,LATENCY'"):
        imported("infragraph", "infragraph-clos.yaml", **FACTS | {"links": {"nvlink": NVLINK}})
    with pytest.raises(InputError, match="does not say which GPU it has"):
        imported("infragraph", "infragraph-clos.yaml", links=FACTS["links"])


def test_devices_in_devices(imported: Import) -> None:
    topology = imported("infragraph", "infragraph-composed.json")
    assert topology.world_size == 4
    assert topology.device(0).kind == "H100-SXM-80GB"  # named by the component
    assert way(topology, 0, 3) == [
        "server.0.slot.0",
        "switch.0.asic.0",
        "server.0.slot.1",
        "server.0.H100-SXM-80GB.3",
    ]
    assert topology.route(0, 3).latency == pytest.approx(parse_seconds("8 us"))  # 4 PCIe and 2 Ethernet cables
    assert topology.bottleneck(topology.route(0, 3)) == parse_bandwidth("200 Gb/s")


def changed(old: str, new: str) -> str:
    text = (FIXTURES / "infragraph-clos.yaml").read_text()
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n", "infragraph.devices: is missing"),
        (changed("device: server, count: 2", "device: serv, count: 2"), '"serv" is no device'),
        (changed("device: server, count: 2", "device: server, count: 1000000000"), "more than 100,000 components"),
        (changed("choice: port, count: 16", "choice: port, count: 1000000000"), "more than 100,000 components"),
        (changed('instance: "host[1]"', 'instance: "host[2]"'), "[2] takes nothing, or more than the 2 there are"),
        (changed("xpu[0:2]", "xpu[0:3]"), "[0:3] takes nothing, or more than the 2 there are"),
        (changed("xpu[0:2]", "xpu[0:2:0]"), "takes nothing"),
        (changed("xpu[0:2]", "gpu[0:2]"), '"gpu" is no component of server'),
        (changed("link: fabric", "link: cloth"), '"cloth" is no link here'),
        (changed("choice: xpu", "choice: cpu"), "has no component of choice xpu"),
        (changed("scheme: many2many", "scheme: ring"), '"ring" is not'),
        (changed("name: mgmt, choice: custom", "name: server, choice: device"), "or inside itself"),
    ],
)
def test_what_is_refused(text: str, message: str, refused: Refused) -> None:
    assert message in refused("infragraph", text, **FACTS)


SHIPPED = [
    ("dgx-a100", []),
    ("dgx-h100", ["topology.nodes=4"]),
    ("pcie-box", []),
    ("ring-8", ["topology.graph.transit=false", "topology.graph.switches=[hub]"]),
    ("local-cpu", []),
]


def add_hub(name: str, settings: list[str]) -> list[str]:
    """InfraGraph cannot say that devices forward; give the ring a hub instead."""
    hub = ", ".join(
        f"{{between: [gpu{i}, hub], bandwidth: 100 GB/s, latency: {i} us, source: made up}}" for i in range(8)
    )
    return [*settings, f"topology.graph.links=[{hub}]"] if name == "ring-8" else settings


@pytest.mark.parametrize(("name", "settings"), SHIPPED)
def test_there_and_back(name: str, settings: list[str], imported: Import, tmp_path: Path) -> None:
    before = load_topology(name, add_hub(name, settings))
    path = tmp_path / "exported.yaml"
    path.write_text(yaml_text(to_infragraph(before)))
    after = imported("infragraph", path)
    assert [device.kind for device in after.devices] == [device.kind for device in before.devices]
    ranks = range(before.world_size)
    assert list(map(after.node, ranks)) == list(map(before.node, ranks))
    for src in ranks:
        for dst in ranks:
            there, back = before.route(src, dst), after.route(src, dst)
            assert after.bottleneck(back) == pytest.approx(before.bottleneck(there), rel=1e-12)
            assert back.latency == pytest.approx(there.latency, rel=1e-12)


def test_hosts_of_a_graph_are_kept(imported: Import, tmp_path: Path) -> None:
    there = imported("slurm", "topology.conf", node="dgx-a100")
    path = tmp_path / "exported.yaml"
    path.write_text(yaml_text(to_infragraph(there)))
    back = imported("infragraph", path)
    assert list(map(back.node, range(48))) == [rank // 8 for rank in range(48)]
    assert [len(back.route(0, rank).links) for rank in (1, 8, 47)] == [2, 2, 4]


def test_equal_nodes_share_a_device() -> None:
    graph = to_infragraph(load_topology("dgx-h100", ["topology.nodes=4"]))
    assert [(each["name"], each["device"], each["count"]) for each in graph["instances"]] == [
        ("host0", "device0", 4),
        ("host1", "device1", 1),
    ]
    server = graph["devices"][0]
    assert [(part["name"], part["choice"], part["count"]) for part in server["components"]] == [
        ("H100-SXM-80GB", "xpu", 8),
        ("nvswitch", "switch", 1),
    ]
    assert len(server["edges"]) == 8
    assert len(graph["edges"]) == 4 * 8
    physical = graph["links"][0]["physical"]
    assert physical["bandwidth"] == {"choice": "gigabytes_per_second", "gigabytes_per_second": 50.0}
    assert physical["latency"] == {"choice": "ns", "ns": pytest.approx(2500)}  # half of the fabric's 1 us each way


def test_too_many_links_are_refused() -> None:
    with pytest.raises(InputError, match=r"directed links; 200,000 can be written"):
        to_infragraph(load_topology("dgx-h100", ["topology.nodes=100000"]))
