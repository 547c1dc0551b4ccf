"""NCCL's topology dumps: an NVSwitch box, a virtual machine, and XML that means harm."""

from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.errors import InputError
from simulator.topology import Topology
from simulator.topology.importers.xml_tree import MAX_DEPTH, parse_xml
from simulator.units import parse_bandwidth, parse_seconds

Import = Callable[..., Topology]
Refused = Callable[..., str]
FIXTURES = Path(__file__).parent / "fixtures"
GEN4 = parse_bandwidth("16 Gb/s") * 16 * (128 / 130)
PCI = '<pci busid="0:{bus}" vendor="0x10de" device="0x20b2" link_speed="16.0 GT/s PCIe" link_width="16">'


def way(topology: Topology, src: int, dst: int) -> list[str]:
    return [topology.links[i].destination for i in topology.route(src, dst).links]


def test_an_nvswitch_box(imported: Import) -> None:
    topology = imported("nccl", "nccl-a100.xml")
    assert topology.world_size == 4
    assert topology.device(0).kind == "A100-SXM-80GB"  # 0x20b2
    route = topology.route(0, 3)
    assert way(topology, 0, 3) == ["node0/nvswitch", "node0/device3"]
    assert topology.bottleneck(route) == 12 * parse_bandwidth("25 GB/s")  # six NVSwitches, two links to each
    assert route.latency == pytest.approx(parse_seconds("2 us"))


def test_its_pci_tree(imported: Import) -> None:
    links = {link.name: link for link in imported("nccl", "nccl-a100.xml").links}
    # A bridge with one child is a piece of its cable; the one with several is a switch.
    assert links["node0/device0->node0/pci-0000.01.00.0"].bandwidth == GEN4
    assert links["node0/pci-0000.41.00.0->node0/cpu1"].bandwidth == GEN4
    assert links["node0/cpu0->node0/cpu1"].bandwidth == parse_bandwidth("16 GB/s")  # Zen 2, by NCCL's estimate
    assert len(links) == 2 * (4 + 4 + 2 + 1)


def test_its_cards_join_nodes(tmp_path: Path, imported: Import) -> None:
    from simulator.load import load_topology

    imported("nccl", "nccl-a100.xml")
    settings = ["topology.nodes=2", "topology.fabric={kind: switch, latency: 1 us, source: made up}"]
    topology = load_topology(str(tmp_path / "imported.yaml"), settings)
    assert topology.world_size == 8
    assert way(topology, 0, 4) == ["node0/pci-0000.01.00.0", "fabric", "node1/pci-0000.01.00.0", "node1/device0"]
    assert topology.bottleneck(topology.route(0, 4)) == parse_bandwidth("200 Gb/s")


def test_a_virtual_machine_hides_its_slots(imported: Import) -> None:
    with pytest.raises(InputError, match=r"nccl-vm\.xml:3:5: PCI device has link_speed=\"\".*--pcie-bandwidth"):
        imported("nccl", "nccl-vm.xml")
    topology = imported("nccl", "nccl-vm.xml", pcie_bandwidth=parse_bandwidth("31.5 GB/s"))
    assert topology.device(3).kind == "A100-PCIe-80GB"
    assert way(topology, 0, 1) == ["node0/device1"]
    assert topology.bottleneck(topology.route(0, 1)) == parse_bandwidth("300 GB/s")
    assert way(topology, 0, 2) == ["node0/cpu0", "node0/cpu2", "node0/device2"]
    assert topology.bottleneck(topology.route(0, 2)) == parse_bandwidth("24 GB/s")  # Zen 3, by NCCL's estimate


@pytest.mark.parametrize("file", ["billion-laughs.xml", "external-entity.xml"])
def test_entities_are_refused_unread(file: str, imported: Import) -> None:
    with pytest.raises(InputError, match=r"has a document type"):
        imported("nccl", file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<system>", "given:1:9: is not XML: no element found"),
        ("<system>&lol;</system>", "given:1:9: is not XML: undefined entity"),
        ("<x/>", "given:1:1: begins with <x>"),
        ("<system/>", "given:1:1: holds no <gpu>"),
        ("not xml", "given:1:1: is not XML"),
        ("<a>" * (MAX_DEPTH + 1), f"is nested deeper than {MAX_DEPTH} levels"),
        (f"<system>\n<cpu>{PCI}<gpu dev='x'/></pci></cpu></system>", "is no whole number"),
        (
            f"<system><cpu>{PCI}<gpu dev='0' sm='80'/></pci>{PCI}<gpu dev='1' sm='80'/></pci></cpu></system>",
            "no bus id",
        ),
        (f"<system><cpu>{PCI}<gpu dev='0' sm='94'><xgmi/></gpu></pci></cpu></system>", "is no whole number"),
        (
            f"<system><cpu>{PCI}<gpu dev='0' gcn='gfx1'><xgmi target='1' count='1'/></gpu></pci></cpu></system>",
            "one of the XGMI links of gfx1 has no known bandwidth; write --nvlink-bandwidth",
        ),
        (
            f"<system><cpu>{PCI}<gpu dev='0' sm='90'><c2c bw='0' count='5'/></gpu></pci></cpu></system>",
            "C2C link of 5 x 0 MB/s",
        ),
        (
            f"<system><cpu>{PCI}<gpu dev='0' sm='71'><nvlink target='1' count='2'/></gpu></pci></cpu></system>",
            "--nvlink-bandwidth",
        ),
        (
            f"<system><cpu>{PCI.replace('20b2', '2331')}<gpu dev='0'/></pci></cpu></system>",
            "H100-PCIe, which is in no",
        ),
        (f"<system><cpu>{PCI.replace('0x10de', '0x1002')}<gpu dev='0'/></pci></cpu></system>", "--device KIND"),
    ],
)
def test_what_is_refused(text: str, message: str, refused: Refused) -> None:
    assert message in refused("nccl", text)


def test_elements_have_a_limit() -> None:
    with pytest.raises(InputError, match="more than 100,000 elements"):
        parse_xml("<a>" + "<b/>" * 100_000 + "</a>", "x")


def test_a_slot_says_how_it_is_encoded(imported: Import, tmp_path: Path) -> None:
    text = (FIXTURES / "nccl-a100.xml").read_text()
    for speed, rate in (("5.0", 5 * 0.8), ("32.0", 32 * 128 / 130), ("64.0", 64 * 242 / 256)):
        path = tmp_path / "dump.xml"
        path.write_text(text.replace('"16.0 GT/s PCIe"', f'"{speed} GT/s PCIe"'))
        links = {link.name: link.bandwidth for link in imported("nccl", path).links}
        expected = parse_bandwidth(f"{rate} Gb/s") * 16
        assert links["node0/device1->node0/pci-0000.01.00.0"] == pytest.approx(expected)


def test_a_node_has_limits(refused: Refused) -> None:
    gpus = "".join(f"{PCI.format(bus=i)}<gpu dev='{i}'/></pci>" for i in range(1025))
    assert "given:1:1: holds 1,025 <gpu>, more than the 1,024 of any node" in refused(
        "nccl", f"<system><cpu>{gpus}</cpu></system>"
    )
    gpu = f"<cpu>{PCI.format(bus=1)}<gpu dev='0'/></pci></cpu>"
    assert "holds 129 <cpu>" in refused("nccl", f"<system>{gpu}{'<cpu/>' * 128}</system>")


def grace(gpus: str) -> str:
    cpu = '<cpu host_hash="0x1" numaid="{}" arch="arm64" vendor="ARM">{}</cpu>'
    return f"<system>{cpu.format(0, gpus)}{cpu.format(1, '')}</system>"


def test_coherent_links_go_to_the_cpu(imported: Import, tmp_path: Path) -> None:
    """Two GPUs beside a Grace without NVLink; figures of a GB300's dump."""
    gpu = '{}<gpu dev="{}" sm="103" rank="{}"><c2c bw="44712" count="5"/></gpu></pci>'
    path = tmp_path / "grace.xml"
    path.write_text(grace("".join(gpu.format(PCI.format(bus=i), i, i) for i in range(2))))
    topology = imported("nccl", path, device="GB200-186GB")
    assert way(topology, 0, 1) == ["node0/cpu0", "node0/device1"]
    assert topology.bottleneck(topology.route(0, 1)) == 5 * parse_bandwidth("44712 MB/s")
    # The slot beside it carries nothing.
    assert sum(link.source == "node0/device0" for link in topology.links) == 1


def test_infinity_fabric(imported: Import, tmp_path: Path) -> None:
    """Four MI300X, each joined to each; what RCCL writes."""
    pci = (
        '<pci busid="{}" class="0x120000" vendor="0x1002" device="0x74a1" link_speed="32.0 GT/s PCIe" link_width="16">'
    )
    gpus = ""
    for i in range(4):
        peers = "".join(f'<xgmi target="{j}" count="1" tclass="0x120000"/>' for j in range(4) if j != i)
        gpus += f'{pci.format(i)}<gpu dev="{i}" sm="94" gcn="gfx942" rank="{i}">{peers}</gpu></pci>'
    path = tmp_path / "rccl.xml"
    path.write_text(f'<system><cpu vendor="AuthenticAMD" familyid="175">{gpus}</cpu></system>')
    topology = imported("nccl", path)
    assert topology.device(0).kind == "MI300X-192GB"
    assert all(len(topology.route(0, rank).links) == 1 for rank in range(1, 4))
    assert topology.bottleneck(topology.route(1, 3)) == parse_bandwidth("64 GB/s")
