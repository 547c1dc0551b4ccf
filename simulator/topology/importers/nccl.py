"""NCCL's topology XML, as ``NCCL_TOPO_DUMP_FILE`` writes it: one node's GPUs, their links, PCI tree and network cards.

Format: ``src/graph/xml.cc`` and ``src/graph/topo.cc`` of NCCL, and of RCCL for AMD's GPUs. ``speed`` of a network card
is in Mb/s, ``bw`` of each of ``count`` C2C links in MB/s.
"""

import re
from itertools import combinations
from typing import Any

from simulator.inputs.yaml_source import read_text
from simulator.topology.importers.cluster import Cable, Cluster
from simulator.topology.importers.defaults import (
    BRIDGE_LATENCY,
    BRIDGE_REASON,
    CARD_LATENCY,
    CARD_REASON,
    NVLINK_LATENCY,
    NVLINK_REASON,
    PCIE_LATENCY,
    PCIE_REASON,
)
from simulator.topology.importers.facts import Facts, refuse
from simulator.topology.importers.gpus import MODELS, NVLINK_BY_SM, XGMI_BY_GCN
from simulator.topology.importers.kinds import choose_kind
from simulator.topology.importers.xml_tree import Element, parse_xml
from simulator.topology.node import MAX_DEVICES_PER_NODE
from simulator.units import parse_bandwidth

_Rates = tuple[tuple[int, str], ...]
INTEL_CPUS: _Rates = ((207, "40 GB/s"), (143, "22 GB/s"), (85, "10 GB/s"))
AMD_CPUS: _Rates = ((191, "32 GB/s"), (175, "24 GB/s"), (143, "16 GB/s"))
OTHER_CPUS = "6 GB/s"
"""Between two CPUs, by Intel's modelid or AMD's familyid from newest to oldest: NCCL's estimates (src/graph/topo.h)."""

PCIE_ENCODINGS = ((5, 8 / 10), (32, 128 / 130), (float("inf"), 242 / 256))
"""Up to so many GT/s: the share of the bits that is payload. PCI Express 1, 2: 8b/10b; 3 to 5: 128b/130b; 6: FLITs."""

MAX_PARTS = {"gpu": MAX_DEVICES_PER_NODE, "cpu": 128}
"""GPUs and CPUs of one dump; an NVL72 rack has 72 and 36. Every two CPUs of a host are joined."""

_NVSWITCH = "0x068000"
_GPU_CLASSES = ("0x030200", "0x030000", "")


def read_nccl(path: str, facts: Facts) -> dict[str, Any]:
    """Return a topology file with the `node` that the dump describes.

    Raises
    ------
    InputError
        The file is no such dump, or lacks what `facts` does not give either.
    """
    root = parse_xml(read_text(path), path)
    if root.tag != "system":
        refuse(root.place, f"begins with <{root.tag[:20]}>, not with <system>", "give a file of NCCL_TOPO_DUMP_FILE")
    return _Machine(path, root, facts).document()


class _Machine:
    def __init__(self, path: str, root: Element, facts: Facts) -> None:
        self._path, self._root, self._facts = path, root, facts
        self._gpus = _find_gpus(root)
        if not self._gpus:
            refuse(root.place, "holds no <gpu>", "NCCL dumps what the job could see; run it with all GPUs")
        for tag, count in (("gpu", len(self._gpus)), ("cpu", len(root.all("cpu")))):
            if count > MAX_PARTS[tag]:
                refuse(root.place, f"holds {count:,} <{tag}>, more than the {MAX_PARTS[tag]:,} of any node")
        self._names = {pci.get("busid").lower(): f"device{i}" for i, (pci, _) in enumerate(self._gpus)}
        self._cluster = Cluster(path)
        self._uplinks: list[tuple[str, Cable]] = []

    def document(self) -> dict[str, Any]:
        """Everything of the dump as a topology file."""
        models = {(pci.get("vendor"), pci.get("device")) for pci, _ in self._gpus}
        first = self._gpus[0][0]
        if len(models) > 1 and self._facts.device is None:
            refuse(
                first.place, f"GPUs of {len(models)} models are in one node", "a node has one kind: write --device KIND"
            )
        model = MODELS.get((first.get("vendor").lower(), first.get("device").lower()))
        kind, block = choose_kind(self._facts.device, model, first.place)
        for name in self._names.values():
            self._cluster.add_device(name, kind)
        for pci, gpu in self._gpus:
            self._add_nvlinks(pci, gpu)
            self._add_xgmi(pci, gpu)
        self._add_cpus()
        found = f"{len(self._gpus)} GPUs and {len(self._uplinks)} network ports"
        return {
            "description": f"Imported from NCCL's topology dump: {found}.",
            "devices": {kind: block},
            "node": self._cluster.node(self._uplinks),
        }

    def _add_nvlinks(self, pci: Element, gpu: Element) -> None:
        name = self._names[pci.get("busid").lower()]
        for nvlink in gpu.all("nvlink"):
            peer = self._names.get(nvlink.get("target").lower())
            rate = NVLINK_BY_SM.get(gpu.number("sm"))
            cable = self._direct(nvlink, f"NVLinks of sm {gpu.number('sm')}", rate, "NVIDIA data sheets")
            if nvlink.get("tclass").lower() == _NVSWITCH:
                # NCCL too sees all NVSwitches of a node as one.
                if "nvswitch" not in self._cluster.switches:
                    self._cluster.add_switch("nvswitch")
                self._cluster.join(name, "nvswitch", cable)
            elif nvlink.get("tclass").lower() not in _GPU_CLASSES:
                refuse(nvlink.place, f"NVLink to something of class {nvlink.get('tclass')[:20]}, which is not read")
            elif peer is not None and name < peer:  # each end lists the links; a GPU that the job did not use has none
                self._cluster.join(name, peer, cable)

    def _add_xgmi(self, pci: Element, gpu: Element) -> None:
        name = self._names[pci.get("busid").lower()]
        for xgmi in gpu.all("xgmi"):
            peer, gcn = self._names.get(xgmi.get("target").lower()), gpu.get("gcn")
            cable = self._direct(xgmi, f"XGMI links of {gcn[:20]}", XGMI_BY_GCN.get(gcn), "AMD data sheets")
            if peer is not None and name < peer:
                self._cluster.join(name, peer, cable)

    def _direct(self, link: Element, what: str, each: str | None, source: str) -> Cable:
        """The cable that `count` links between GPUs make; ``each`` is the bandwidth of one, where it is known."""
        given, count = self._facts.nvlink_bandwidth, link.number("count")
        rate = given or (parse_bandwidth(each) if each else None)
        if rate is None or not count:
            wrong = f"one of the {what} has no known bandwidth" if count else "has no links: count is 0"
            refuse(link.place, wrong, "write --nvlink-bandwidth '25 GB/s' (one link, one direction)")
        of_one = "the bandwidth given by --nvlink-bandwidth" if given else each
        words = f"{self._path}: {what}, {of_one} each per direction ({source}). {NVLINK_REASON}"
        return Cable(count * rate, NVLINK_LATENCY, words)

    def _add_cpus(self) -> None:
        cpus: dict[str, list[tuple[str, Element]]] = {}
        for i, cpu in enumerate(self._root.all("cpu")):
            name = f"cpu{i}"
            self._cluster.add_switch(name)
            cpus.setdefault(cpu.get("host_hash"), []).append((name, cpu))
            for child in cpu.all("pci", "nic"):
                self._add_pci(child, name, name, float("inf"))
        for host in cpus.values():
            for (one, cpu), (other, _) in combinations(host, 2):
                self._cluster.join(one, other, self._between_cpus(cpu))

    def _between_cpus(self, cpu: Element) -> Cable:
        vendors: dict[str, tuple[str, _Rates]] = {
            "GenuineIntel": ("modelid", INTEL_CPUS),
            "AuthenticAMD": ("familyid", AMD_CPUS),
        }
        number, known = vendors.get(cpu.get("vendor"), ("", ()))
        found = (rate for oldest, rate in known if cpu.number(number) >= oldest)
        source = f"Estimate by NCCL for this CPU (src/graph/topo.h). {BRIDGE_REASON}"
        return Cable(parse_bandwidth(next(found, OTHER_CPUS)), BRIDGE_LATENCY, source)

    def _add_pci(self, pci: Element, cpu: str, above: str, narrowest: float) -> None:
        """Add what hangs from a switch: a GPU, a card, or a bridge with more below it."""
        if pci.tag == "pci":
            narrowest = min(narrowest, self._slot(pci))
        gpu = self._names.get(pci.get("busid").lower())
        if gpu is not None:
            coherent = [link for each in pci.all("gpu") for link in each.all("c2c")]
            for link in coherent:
                self._cluster.join(gpu, cpu, self._c2c(link))
            if not coherent or above != cpu:  # beside a C2C link to the same CPU, the slot carries nothing
                source = f"{self._path}: link_speed and link_width of the PCI devices on the way. {PCIE_REASON}"
                self._cluster.join(gpu, above, Cable(narrowest, PCIE_LATENCY, source))
            return
        for net in pci.all("net"):
            self._add_card(net, above, narrowest)
        below = pci.all("pci", "nic")
        if len(below) > 1:
            bridge = f"pci-{pci.get('busid').replace(':', '.')}"
            self._cluster.add_switch(bridge)
            source = f"{self._path}: link_speed and link_width of the PCI bridge. {BRIDGE_REASON}"
            self._cluster.join(bridge, above, Cable(narrowest, BRIDGE_LATENCY, source))
            above, narrowest = bridge, float("inf")
        for child in below:
            self._add_pci(child, cpu, above, narrowest)

    def _c2c(self, link: Element) -> Cable:
        count, each = link.number("count"), link.number("bw")
        if not count * each:
            refuse(link.place, f"C2C link of {count} x {each} MB/s", "remove the <c2c>, or write its count and bw")
        source = f"{self._path}: C2C, {count} links of {each} MB/s per direction. {NVLINK_REASON}"
        return Cable(parse_bandwidth(f"{count * each} MB/s"), NVLINK_LATENCY, source)

    def _add_card(self, net: Element, above: str, narrowest: float) -> None:
        speed = net.number("speed")
        if not speed:
            refuse(net.place, "network card without speed", "remove the <net>, or write its speed in Mb/s")
        source = (
            f"{self._path}: port {net.get('name')}, {speed} Mb/s, or its PCI slot where that is narrower. {CARD_REASON}"
        )
        self._uplinks.append((above, Cable(min(parse_bandwidth(f"{speed} Mb/s"), narrowest), CARD_LATENCY, source)))

    def _slot(self, pci: Element) -> float:
        """Bytes/s per direction of a slot: transfers/s x lanes x the share that the encoding leaves."""
        speed = re.match(r"([0-9]{1,3}(?:\.[0-9])?) GT/s", pci.get("link_speed"))
        width = pci.number("link_width") if pci.get("link_width") else 0
        if speed and width:
            share = next(share for fastest, share in PCIE_ENCODINGS if float(speed[1]) <= fastest)
            return parse_bandwidth(f"{speed[1]} Gb/s") * width * share
        if self._facts.pcie_bandwidth is not None:
            return self._facts.pcie_bandwidth
        fault = f'link_speed="{pci.get("link_speed")[:20]}" and link_width="{width}" (as in a virtual machine)'
        refuse(pci.place, f"PCI device has {fault}", "write --pcie-bandwidth '31.5 GB/s' (Gen4 x16) for such slots")


def _find_gpus(root: Element) -> list[tuple[Element, Element]]:
    """Each PCI device that is a GPU, with its <gpu>, by rank (or by device where the dump gives no ranks)."""
    found: list[tuple[int, Element, Element]] = []
    seen: set[str] = set()
    waiting = list(root.all("cpu"))
    while waiting:
        element = waiting.pop()
        for gpu in element.all("gpu"):
            if not element.get("busid") or element.get("busid").lower() in seen:
                refuse(element.place, "GPU's PCI device has no bus id of its own (busid)")
            seen.add(element.get("busid").lower())
            found.append((gpu.number("rank" if gpu.get("rank") else "dev"), element, gpu))
        waiting += element.all("pci")
    return [(pci, gpu) for _, pci, gpu in sorted(found, key=lambda each: each[0])]
