"""The files of other simulators: ASTRA-sim's dimensions and SimAI's lists of links."""

from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.topology import Topology
from simulator.units import parse_bandwidth, parse_seconds

Import = Callable[..., Topology]
Refused = Callable[..., str]
FIXTURES = Path(__file__).parent / "fixtures"
H100 = "H100-SXM-80GB"


def way(topology: Topology, src: int, dst: int) -> list[str]:
    return [topology.links[i].destination for i in topology.route(src, dst).links]


def test_astra_sim_one_switch(imported: Import) -> None:
    topology = imported("astra-sim", "astra-sim-switch.yml", device=H100)
    assert (topology.world_size, topology.num_nodes) == (8, 1)
    assert way(topology, 2, 5) == ["switch0-0", "npu5"]
    assert topology.bottleneck(topology.route(2, 5)) == 400 * 2**30  # ASTRA-sim's GB
    assert topology.route(2, 5).latency == pytest.approx(2 * parse_seconds("936.25 ns"))


def test_astra_sim_dimensions_nest(imported: Import) -> None:
    topology = imported("astra-sim", "astra-sim-3d.yml", device=H100)
    assert topology.world_size == 2 * 8 * 4
    assert [topology.node(rank) for rank in (0, 1, 2, 63)] == [0, 0, 1, 31]  # the innermost dimension is a node
    # 32 rings of two (one cable each), 8 full meshes of 8, 16 switches of 4
    assert len(topology.links) == 2 * (32 + 8 * 28 + 16 * 4)
    assert way(topology, 0, 1) == ["npu1"]
    assert topology.bottleneck(topology.route(0, 1)) == 200 * 2**30
    assert way(topology, 0, 14) == ["npu14"]  # 7 steps in the second dimension, whose stride is 2
    assert way(topology, 0, 48) == ["switch2-0", "npu48"]
    assert topology.route(0, 48).latency == pytest.approx(parse_seconds("4 us"))
    assert len(way(topology, 0, 63)) == 4  # one hop in the ring, one in the mesh, two over the switch


@pytest.mark.parametrize("size", [2, 5])
def test_astra_sim_ring(size: int, imported: Import, tmp_path: Path) -> None:
    path = tmp_path / "ring.yml"
    path.write_text(f"topology: [Ring]\nnpus_count: [{size}]\nbandwidth: [1]\nlatency: [0]\n")
    topology = imported("astra-sim", path, device=H100)
    assert len(topology.links) == (2 if size == 2 else 2 * size)
    assert len(way(topology, 0, size - 1)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "topology: [Mesh]\nnpus_count: [2]\nbandwidth: [1]\nlatency: [1]\n",
            'given:1:12: network.topology.0: "Mesh" is not',
        ),
        (
            "topology: [Ring]\nnpus_count: [2, 3]\nbandwidth: [1]\nlatency: [1]\n",
            "given:2:1: network.npus_count: has 2 entries",
        ),
        ("topology: [Ring]\nnpus_count: [2]\nbandwidth: [0]\nlatency: [1]\n", "network.bandwidth.0"),
        ("topology: [Ring]\nnpus_count: [2]\nbandwidth: [1]\nlatency: [-1]\n", "network.latency.0"),
        ("topology: [Ring]\nnpus_count: [2]\nbandwidth: [1]\n", "network.latency: is missing"),
        (
            "topology: [FullyConnected, Ring]\nnpus_count: [1000000000, 9]\nbandwidth: [1, 1]\nlatency: [1, 1]\n",
            "cables; a topology file may name 10,000",
        ),
    ],
)
def test_astra_sim_refused(text: str, message: str, refused: Refused) -> None:
    assert message in refused("astra-sim", text, device=H100)


def test_simai_rails(imported: Import) -> None:
    topology = imported("simai", "simai-rail-16")
    assert [topology.node(rank) for rank in range(16)] == [0] * 8 + [1] * 8
    assert topology.device(0).kind == H100  # the only shipped kind of an H100
    assert way(topology, 0, 7) == ["nvswitch16", "gpu7"]
    assert topology.bottleneck(topology.route(0, 7)) == parse_bandwidth("450 GB/s")
    assert way(topology, 0, 8) == ["switch18", "gpu8"]
    assert way(topology, 0, 9) == ["switch18", "switch26", "switch19", "gpu9"]
    assert topology.route(0, 9).latency == pytest.approx(parse_seconds("2 us"))
    links = {link.name: link for link in topology.links}
    assert links["switch18->switch26"].bandwidth == 4 * parse_bandwidth("400 Gb/s")  # four spines are one trunk
    assert len(links) == 2 * (16 + 16 + 8)


def lines(*changed: tuple[int, str]) -> str:
    text = (FIXTURES / "simai-rail-16").read_text().splitlines()
    for number, line in changed:
        text[number] = line
    return "\n".join(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "given: does not begin with six words"),
        (lines((0, "30 8 2 12 64")), "given:1:1: does not begin with six words"),
        (lines((0, "30 8 2 12 63 H100")), "given:1:1: announces 63 links, and 64 lines follow"),
        (lines((0, "12 8 2 12 64 H100")), "12 nodes - 2 NVSwitches - 12 switches = -2 GPUs"),
        (lines((0, "30 8 2 12 64 A100")), "names the GPU A100, which is one of A100-"),
        (lines((0, "30 8 2 12 64 NONE")), "does not say which GPU it has"),
        (lines((1, "16 17")), "given:2:1: must list the 14 switches, 16 to 29"),
        (lines((2, "0 16 3600Gbps 0.000025ms")), "given:3:1: has 4 words"),
        (lines((2, "0 99 3600Gbps 0.000025ms 0")), 'given:3:1: "99" is no whole number below 30'),
        (lines((2, "0 16 3600 0.000025ms 0")), 'given:3:1: "3600" has no unit'),
        (lines((2, "0 16 0Gbps 0.000025ms 0")), "given:3:1: joins something to itself"),
        (lines((2, "0 0 1Gbps 0.000025ms 0")), "given:3:1: joins something to itself"),
    ],
)
def test_simai_refused(text: str, message: str, refused: Refused) -> None:
    assert message in refused("simai", text)


def test_simai_says_what_it_does_not_model(imported: Import, tmp_path: Path) -> None:
    path = tmp_path / "lossy"
    path.write_text(lines((2, "0 16 3600Gbps 0.000025ms 0.01")))
    assert "Error rates are not modelled" in imported("simai", path).description
