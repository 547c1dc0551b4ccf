"""``plancast topology import``: make a topology file of another tool's description of a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators


def import_(
    format: Literal["nccl", "nvidia-smi", "slurm", "infragraph", "astra-sim", "simai"],
    file: str,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o", help="Topology file to write; stdout if absent.")] = None,
    name: Annotated[str | None, Parameter(help="The topology's name; the file's if absent.")] = None,
    device: Annotated[str | None, Parameter(help="Device kind: a shipped one, as A100-SXM-80GB, or FILE:KIND.")] = None,
    node: Annotated[str | None, Parameter(help="slurm: topology whose node every host is, as dgx-h100.")] = None,
    nodes: Annotated[
        int | None,
        Parameter(
            help="nccl, nvidia-smi: so many equal nodes, their network cards joined by one ideal switch.",
            validator=validators.Number(gte=1),
        ),
    ] = None,
    oversubscription: Annotated[
        float | None,
        Parameter(
            help="slurm: what enters a switch from below over what leaves it upwards; 1 if absent.",
            validator=validators.Number(gt=0),
        ),
    ] = None,
    pcie_bandwidth: Annotated[
        str | None, Parameter(help="nccl, nvidia-smi: of a slot whose speed is not stated, as '31.5 GB/s'.")
    ] = None,
    nic_bandwidth: Annotated[str | None, Parameter(help="nvidia-smi: of a network port, as '400 Gb/s'.")] = None,
    nvlink_bandwidth: Annotated[
        str | None, Parameter(help="nccl, nvidia-smi: of one NVLink and direction, as '25 GB/s'.")
    ] = None,
    link: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(), show_default=False, help="infragraph: a link class, as 'pcie=31.5 GB/s,1 us'; repeatable."
        ),
    ] = (),
) -> None:
    """Make a topology file of another tool's description of a cluster.

    What the description does not say is asked for; defaults (latencies) are named in the `source` of each link.

    Parameters
    ----------
    format
        What FILE is: NCCL_TOPO_DUMP_FILE, nvidia-smi topo -m, topology.conf or topology.yaml, and so on.
    file
        The description.
    """
    from simulator.commands.topology_export import write
    from simulator.topology.importers import Facts, import_topology
    from simulator.units import parse_bandwidth

    facts = Facts(
        device=device,
        node=node,
        nodes=nodes,
        oversubscription=oversubscription,
        pcie_bandwidth=_positive("--pcie-bandwidth", pcie_bandwidth, parse_bandwidth),
        nic_bandwidth=_positive("--nic-bandwidth", nic_bandwidth, parse_bandwidth),
        nvlink_bandwidth=_positive("--nvlink-bandwidth", nvlink_bandwidth, parse_bandwidth),
        links=dict(_link(text) for text in link),
    )
    stem = re.sub(r"[^A-Za-z0-9._+-]+|^[^A-Za-z0-9]+", "-", Path(file).stem).strip("-.")[:100]
    write(output, import_topology(format, file, facts, name or stem or "imported"))


def _positive(option: str, text: str | None, parse: Callable[[str], float]) -> float | None:
    from simulator.topology.importers.facts import refuse

    if text is None:
        return None
    try:
        value = parse(text)
    except ValueError as error:
        refuse(f"{option} {text}", str(error))
    if value <= 0:
        refuse(f"{option} {text}", "is not more than zero")
    return value


def _link(text: str) -> tuple[str, tuple[float, float]]:
    """Split ``NAME=BANDWIDTH,LATENCY``."""
    from simulator.topology.importers.facts import refuse
    from simulator.units import parse_bandwidth, parse_seconds

    name, equals, values = text.partition("=")
    bandwidth, comma, latency = values.partition(",")
    if not (equals and comma):
        refuse(f"--link {text}", "is not NAME=BANDWIDTH,LATENCY", "write, say, --link 'pcie=31.5 GB/s,1 us'")
    rate = _positive(f"--link {name}=", bandwidth.strip(), parse_bandwidth)
    assert rate is not None
    try:
        return name, (rate, parse_seconds(latency.strip()))
    except ValueError as error:
        refuse(f"--link {text}", str(error))
