"""Other tools' descriptions of clusters -> topology files; one module a format.

What a format does not say is asked for (`Facts`) or, for latencies, a default that the `source` of each link names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.errors import Problems
from simulator.inputs.validate import validate
from simulator.inputs.yaml_source import Document
from simulator.topology.build import build_topology
from simulator.topology.importers.additions import library, several
from simulator.topology.importers.astra_sim import read_astra_sim
from simulator.topology.importers.facts import Facts, refuse
from simulator.topology.importers.infragraph import read_infragraph
from simulator.topology.importers.nccl import read_nccl
from simulator.topology.importers.nvidia_smi import read_nvidia_smi
from simulator.topology.importers.simai import read_simai
from simulator.topology.importers.slurm import read_slurm
from simulator.topology.schema import TopologySchema

__all__ = ["FORMATS", "Facts", "Format", "import_topology"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format that can be imported.

    Parameters
    ----------
    read : Callable[[str, Facts], dict]
        From a file and what the user adds to a topology file without its name.
    uses : tuple[str, ...]
        Which facts mean something to it.
    """

    read: Callable[[str, Facts], dict[str, Any]]
    uses: tuple[str, ...]


FORMATS = {
    "nccl": Format(read_nccl, ("device", "nodes", "pcie_bandwidth", "nvlink_bandwidth")),
    "nvidia-smi": Format(read_nvidia_smi, ("device", "nodes", "pcie_bandwidth", "nic_bandwidth", "nvlink_bandwidth")),
    "slurm": Format(read_slurm, ("node", "oversubscription")),
    "infragraph": Format(read_infragraph, ("device", "links")),
    "astra-sim": Format(read_astra_sim, ("device",)),
    "simai": Format(read_simai, ("device",)),
}


def import_topology(kind: str, path: str, facts: Facts, name: str) -> dict[str, Any]:
    """Return a topology file as plain data, which plancast itself has found valid.

    Parameters
    ----------
    kind : str
        A key of `FORMATS`.
    path : str
        The file to import.
    facts : Facts
        What it does not say.
    name : str
        The topology's name.

    Raises
    ------
    InputError
        The file is wrong, says too little, or describes something that is no topology (say, GPUs that nothing joins).
    """
    reader = FORMATS[kind]
    for fact in facts.given():
        if fact not in reader.uses:
            option = "--" + {"links": "link"}.get(fact, fact).replace("_", "-")
            refuse(option, f"says nothing to the format {kind}", f"leave {option} out")
    data = {"name": name, **reader.read(path, facts)}
    data |= several(data, facts) | library(data)
    document = Document(name="topology", path=path, data=data)
    problems = Problems(document.locate)
    spec = validate(document, TopologySchema, problems)
    if spec is not None:
        build_topology(spec, problems)
    problems.raise_if_any()
    return data
