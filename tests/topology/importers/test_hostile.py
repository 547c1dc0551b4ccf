"""Damaged files are refused like a user's other mistakes: never a traceback, a hang or a silent half."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.topology.importers import Facts, import_topology
from simulator.units import parse_bandwidth

FIXTURES = Path(__file__).parent / "fixtures"
SLOT = parse_bandwidth("31.5 GB/s")
FILES: list[tuple[str, str, dict[str, Any]]] = [
    ("nccl", "nccl-a100.xml", {}),
    ("nccl", "nccl-vm.xml", {"pcie_bandwidth": SLOT}),
    ("nvidia-smi", "nvidia-smi-pcie.txt", {"device": "A100-PCIe-80GB", "pcie_bandwidth": SLOT, "nic_bandwidth": SLOT}),
    ("nvidia-smi", "nvidia-smi-h100.txt", {"device": "H100-SXM-80GB"}),
    ("slurm", "topology.conf", {"node": "dgx-a100"}),
    ("slurm", "topology.yaml", {"node": "dgx-a100"}),
    ("astra-sim", "astra-sim-3d.yml", {"device": "H100-SXM-80GB"}),
    ("simai", "simai-rail-16", {}),
    ("infragraph", "infragraph-composed.json", {}),
    (
        "infragraph",
        "infragraph-clos.yaml",
        {"device": "A100-SXM-80GB", "links": {"nvlink": (SLOT, 0), "pcie": (SLOT, 0)}},
    ),
]
DAMAGE = ["", "0", "-1", "99999999999", "[", "]", "<", "\n", ":", "\x00", "*", "é"]


@pytest.mark.parametrize(("kind", "file", "facts"), FILES, ids=[file for _, file, _ in FILES])
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_files(
    kind: str, file: str, facts: dict[str, Any], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = (FIXTURES / file).read_text()
    start = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.sampled_from([0, 1, 2, 5, 40, 400]))
    damaged = text[:start] + data.draw(st.sampled_from(DAMAGE)) + text[start + length :]
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_text(damaged)
    try:
        import_topology(kind, str(path), Facts(**facts), "lab")
    except InputError as error:
        assert str(error)
