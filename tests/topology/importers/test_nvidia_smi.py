"""The matrices of nvidia-smi topo -m: behind NVSwitch, meshed by NVLink, and on PCIe alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.errors import InputError
from simulator.topology import Topology
from simulator.units import parse_bandwidth, parse_seconds

Import = Callable[..., Topology]
Refused = Callable[..., str]
FIXTURES = Path(__file__).parent / "fixtures"
SLOT = parse_bandwidth("31.5 GB/s")


def way(topology: Topology, src: int, dst: int) -> list[str]:
    return [topology.links[i].destination for i in topology.route(src, dst).links]


def test_more_links_than_a_gpu_has_is_an_nvswitch(imported: Import) -> None:
    topology = imported("nvidia-smi", "nvidia-smi-h100.txt", device="H100-SXM-80GB")
    assert topology.world_size == 8
    assert way(topology, 0, 7) == ["node0/nvswitch", "node0/device7"]
    assert topology.bottleneck(topology.route(0, 7)) == parse_bandwidth("450 GB/s")
    assert len(topology.links) == 2 * 8
    assert "left out: no bandwidth was given" in topology.description


def test_as_many_links_as_a_gpu_has_is_a_mesh(imported: Import) -> None:
    topology = imported("nvidia-smi", "nvidia-smi-a100-mesh.txt", device="A100-SXM-80GB")
    assert way(topology, 0, 3) == ["node0/device3"]
    assert topology.bottleneck(topology.route(0, 3)) == parse_bandwidth("100 GB/s")
    assert len(topology.links) == 2 * 6


def test_cards_hang_where_the_matrix_has_them(imported: Import, tmp_path: Path) -> None:
    from simulator.load import load_topology

    facts = {"pcie_bandwidth": parse_bandwidth("63 GB/s"), "nic_bandwidth": parse_bandwidth("400 Gb/s")}
    imported("nvidia-smi", "nvidia-smi-h100.txt", device="H100-SXM-80GB", **facts)
    settings = ["topology.nodes=2", "topology.fabric={kind: switch, latency: 1 us, source: made up}"]
    topology = load_topology(str(tmp_path / "imported.yaml"), settings)
    ways = [way(topology, gpu, 8) for gpu in range(8)]
    assert len({tuple(links[:2]) for links in ways}) == 8  # each GPU leaves by a card of its own
    assert all(links[1] == "fabric" for links in ways)
    assert topology.bottleneck(topology.route(0, 8)) == parse_bandwidth("50 GB/s")


def test_a_pcie_box_is_a_tree(imported: Import) -> None:
    with pytest.raises(InputError, match=r"nvidia-smi-pcie\.txt:1:1: .*over PCIe only; write --pcie-bandwidth"):
        imported("nvidia-smi", "nvidia-smi-pcie.txt", device="A100-PCIe-80GB")
    topology = imported("nvidia-smi", "nvidia-smi-pcie.txt", device="A100-PCIe-80GB", pcie_bandwidth=SLOT)
    hops = [len(way(topology, 0, rank)) for rank in range(4)]
    assert hops == [0, 2, 4, 4]  # PIX: one switch; SYS: up, across and down
    assert topology.route(0, 1).latency == pytest.approx(parse_seconds("3 us"))
    assert topology.bottleneck(topology.route(0, 3)) == SLOT
    assert len(topology.links) == 2 * (4 + 2)
    assert "1 network cards are left out" in topology.description


@pytest.mark.parametrize(
    ("text", "facts", "message"),
    [
        ("", {"device": "A100-SXM-80GB"}, "given: holds no matrix"),
        ("GPU0 GPU1\nGPU0 X NV4\n", {"device": "A100-SXM-80GB"}, "given:1:1: has no row for GPU1"),
        (
            "GPU0 GPU1\nGPU0 X\nGPU1 X X\n",
            {"device": "A100-SXM-80GB"},
            "given:2:1: row GPU0: has 1 cells for 2 columns",
        ),
        ("GPU0 GPU1\nGPU0 X QQ\nGPU1 QQ X\n", {"device": "A100-SXM-80GB"}, 'given:2:1: row GPU0: "QQ" is no cell'),
        ("GPU0 GPU0\n", {"device": "A100-SXM-80GB"}, "columns of the same name"),
        ("GPU0 GPU1\nGPU0 X NV4\nGPU1 NV4 X\n", {}, "given:1:1: does not say which GPU it has; write --device"),
        ("GPU0 GPU1\nGPU0 X NV4\nGPU1 NV4 X\n", {"device": "A100-SXM"}, "did you mean A100-SXM-80GB?"),
        ("GPU0 GPU1\nGPU0 X NV4\nGPU1 NV4 X\n", {"device": "cpu-core"}, "write --nvlink-bandwidth"),
        ("GPU0\nGPU0 X\n", {"device": "A100-SXM-80GB", "nic_bandwidth": 1.0}, "network cards hang from PCIe"),
        ("GPU0\nGPU0 X\n", {"device": "A100-SXM-80GB", "node": "dgx-a100"}, "--node: says nothing to the format"),
    ],
)
def test_what_is_refused(text: str, facts: dict[str, object], message: str, refused: Refused) -> None:
    assert message in refused("nvidia-smi", text, **facts)
