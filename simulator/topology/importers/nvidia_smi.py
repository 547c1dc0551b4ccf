"""The matrix that ``nvidia-smi topo -m`` prints: how close GPUs and network cards of one node are to each other.

It names no GPU model, no PCIe generation and no network speed; the user adds what is needed of them.
"""

import re
from dataclasses import dataclass
from typing import Any, NoReturn

import networkx as nx

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
from simulator.topology.importers.kinds import NVLINK_SOURCE, choose_kind, nvlinks

LEVELS = {"PIX": "pcie", "PXB": "bridges", "PHB": "cpu", "NODE": "numa", "SYS": "system"}
"""What a pair has in common, from near to far, and what the switch there is called."""

MAX_NVLINKS = 18
"""NVLinks of one GPU, the most of any up to Blackwell."""

MAX_COLUMNS = 512
"""GPUs and network cards of one node."""

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_CELL = re.compile(r"X|NV[0-9]{1,2}|PIX|PXB|PHB|NODE|SYS")


@dataclass(frozen=True, slots=True)
class _Matrix:
    """Names in the order of the columns, the cell of each pair, and what each GPU's CPU affinity is."""

    names: list[str]
    cells: dict[tuple[str, str], str]
    affinity: dict[str, tuple[str, ...]]
    place: str

    @property
    def gpus(self) -> list[str]:
        return [name for name in self.names if name.startswith("GPU")]


def read_nvidia_smi(path: str, facts: Facts) -> dict[str, Any]:
    """Return a topology file with the `node` that the matrix describes.

    Raises
    ------
    InputError
        The file holds no such matrix, or lacks what `facts` does not give either.
    """
    matrix = _read_matrix(path, read_text(path))
    return _Machine(path, matrix, facts).document()


def _read_matrix(path: str, text: str) -> _Matrix:
    names: list[str] = []
    cells: dict[tuple[str, str], str] = {}
    affinity: dict[str, tuple[str, ...]] = {}
    place = path
    for number, line in enumerate(text.splitlines(), 1):
        words = _ESCAPE.sub("", line).split()
        if not names and words[:1] == ["GPU0"]:
            names = words[: words.index("CPU") if "CPU" in words else None]
            place = f"{path}:{number}:1"
            if len(names) != len(set(names)) or len(names) > MAX_COLUMNS:
                refuse(place, f"has columns of the same name, or more than {MAX_COLUMNS}")
        elif words and words[0] in names:
            row = words[1 : len(names) + 1]
            wrong = [cell for cell in row if not _CELL.fullmatch(cell)]
            if wrong or len(row) < len(names):
                fault = f'"{wrong[0][:20]}" is no cell' if wrong else f"has {len(row)} cells for {len(names)} columns"
                refuse(f"{path}:{number}:1", f"row {words[0]}: {fault}", "save the matrix as nvidia-smi prints it")
            cells |= {(words[0], name): cell for name, cell in zip(names, row, strict=True)}
            affinity[words[0]] = tuple(words[len(names) + 1 :][:2])
    if not names:
        refuse(path, "holds no matrix that begins with GPU0", "save the output of nvidia-smi topo -m")
    missing = [name for name in names if (name, name) not in cells]
    if missing:
        refuse(place, f"has no row for {missing[0]}", "save the whole output of nvidia-smi topo -m")
    return _Matrix(names, cells, affinity, place)


class _Machine:
    def __init__(self, path: str, matrix: _Matrix, facts: Facts) -> None:
        self._path, self._matrix, self._facts = path, matrix, facts
        self._kind, self._block = choose_kind(facts.device, None, matrix.place)
        self._devices = {gpu: f"device{i}" for i, gpu in enumerate(matrix.gpus)}
        self._cluster = Cluster(path)
        self._uplinks: list[tuple[str, Cable]] = []
        self._tops = {name: name for name in matrix.names}

    def document(self) -> dict[str, Any]:
        """Everything of the matrix that the user's facts give a bandwidth to, as a topology file."""
        for name in self._devices.values():
            self._cluster.add_device(name, self._kind)
        self._add_nvlinks()
        left_out = self._add_pcie()
        return {
            "description": f"Imported from nvidia-smi topo -m: {len(self._devices)} GPUs, {len(self._uplinks)} network "
            f"ports.{left_out}",
            "devices": {self._kind: self._block},
            "node": self._cluster.node(self._uplinks),
        }

    def _counts(self, gpu: str) -> dict[str, int]:
        """The number of NVLinks from a GPU to each other one that has some."""
        cells = {other: self._matrix.cells[gpu, other] for other in self._devices}
        return {other: int(cell[2:]) for other, cell in cells.items() if cell.startswith("NV") and cell != "NV0"}

    def _add_nvlinks(self) -> None:
        """Join GPUs by NVLink: through NVSwitch if a GPU shows more links than it has, else each pair.

        Behind NVSwitch each pair shows all links of a GPU, because any pair may use all of them.
        """
        counts = {gpu: self._counts(gpu) for gpu in self._devices}
        if not any(counts.values()):
            return
        known = nvlinks(self._kind)
        total, each = known if known else (MAX_NVLINKS, 0.0)
        each = self._facts.nvlink_bandwidth or each
        if not each:
            hint = "write --nvlink-bandwidth '25 GB/s' (one link, one direction)"
            refuse(self._matrix.place, f"one NVLink of {self._kind} has no known bandwidth", hint)
        origin = "given by --nvlink-bandwidth" if self._facts.nvlink_bandwidth else NVLINK_SOURCE
        source = f"{self._path}: number of NVLinks; bandwidth of one: {origin}. {NVLINK_REASON}"
        if any(sum(row.values()) > total for row in counts.values()):
            self._cluster.add_switch("nvswitch")
            for gpu, row in counts.items():
                if row:
                    cable = Cable(max(row.values()) * each, NVLINK_LATENCY, source)
                    self._cluster.join(self._devices[gpu], "nvswitch", cable)
            return
        for gpu, row in counts.items():
            for other, count in row.items():
                if self._devices[gpu] < self._devices[other]:
                    cable = Cable(count * each, NVLINK_LATENCY, source)
                    self._cluster.join(self._devices[gpu], self._devices[other], cable)

    def _add_pcie(self) -> str:
        """Add the PCI tree; return what had to be left out of it, in words."""
        whole = all(len(self._counts(gpu)) == len(self._devices) - 1 for gpu in self._devices)
        cards = [name for name in self._matrix.names if name not in self._devices]
        if self._facts.pcie_bandwidth is None:
            if not whole:
                self._ask("some GPUs reach each other over PCIe only", "--pcie-bandwidth '31.5 GB/s' (Gen4 x16)")
            if self._facts.nic_bandwidth is not None:
                self._ask("network cards hang from PCIe", "--pcie-bandwidth '31.5 GB/s' (Gen4 x16) too")
            return " PCIe and network cards are left out: no bandwidth was given for them."
        members = [*self._devices, *(cards if self._facts.nic_bandwidth is not None else [])]
        for level, name in enumerate(LEVELS.values()):
            self._group(members, level, name)
        if cards and self._facts.nic_bandwidth is None:
            return f" {len(cards)} network cards are left out: no bandwidth was given for them."
        return ""

    def _ask(self, why: str, what: str) -> NoReturn:
        refuse(self._matrix.place, f"says nothing about the bandwidth of PCIe, and {why}", f"write {what}")

    def _group(self, members: list[str], level: int, name: str) -> None:
        """Put a switch over those that are no farther from each other than `level`, where none is yet."""
        near: nx.Graph[str] = nx.Graph()
        near.add_nodes_from(members)
        near.add_edges_from((a, b) for a in members for b in members if a != b and self._distance(a, b) <= level)
        for number, group in enumerate(nx.connected_components(near)):
            tops = dict.fromkeys(self._tops[member] for member in members if member in group)
            if len(tops) > 1:
                switch = f"{name}{number}"
                self._cluster.add_switch(switch)
                for top in tops:
                    self._hang(top, switch)
                self._tops |= dict.fromkeys(group, switch)

    def _hang(self, below: str, switch: str) -> None:
        """Join a GPU, a network card or a switch to the switch above it."""
        slot = self._facts.pcie_bandwidth
        assert slot is not None
        origin = f"{self._path}: what shares a switch; bandwidth given by --pcie-bandwidth"
        if below in self._devices:
            cable = Cable(slot, PCIE_LATENCY, f"{origin}. {PCIE_REASON}")
            self._cluster.join(self._devices[below], switch, cable)
        elif below in self._matrix.names:
            assert self._facts.nic_bandwidth is not None
            source = f"Port {below}: given by --nic-bandwidth, or the PCI slot where that is narrower. {CARD_REASON}"
            self._uplinks.append((switch, Cable(min(self._facts.nic_bandwidth, slot), CARD_LATENCY, source)))
        else:
            source = f"{origin}, and assumed for the way between CPUs as well. {BRIDGE_REASON}"
            self._cluster.join(below, switch, Cable(slot, BRIDGE_LATENCY, source))

    def _distance(self, one: str, other: str) -> int:
        cell = self._matrix.cells[one, other]
        if cell in LEVELS:
            return list(LEVELS).index(cell)
        # NVLink hides how far two GPUs are over PCIe; the CPU that both are near to tells it well enough.
        same = self._matrix.affinity[one] == self._matrix.affinity[other]
        return list(LEVELS).index("NODE" if same else "SYS")
