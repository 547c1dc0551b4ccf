"""ASTRA-sim's network YAML (its analytical backend): dimensions of rings, full meshes and switches over all NPUs.

Format: ``topology``, ``npus_count``, ``bandwidth`` and ``latency``, one entry a dimension, the first one innermost.
Bandwidth is per link and direction; its "GB/s" are 2^30 bytes/s (``bw_GBps_to_Bpns`` in astra-network-analytical's
NetworkFunction.cc).
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from math import prod
from typing import Any, Literal

from simulator.errors import Problems
from simulator.inputs.fields import NonNegativeNumber, PositiveInt, PositiveNumber
from simulator.inputs.validate import validate
from simulator.inputs.yaml_source import read_document
from simulator.topology.importers.cluster import MAX_CABLES, Cable, Cluster
from simulator.topology.importers.facts import Facts, refuse
from simulator.topology.importers.foreign import ForeignModel
from simulator.topology.importers.kinds import choose_kind
from simulator.units import parse_bandwidth, parse_seconds

Block = Literal["Ring", "FullyConnected", "Switch"]


class _NetworkSchema(ForeignModel):
    topology: list[Block]
    npus_count: list[PositiveInt]
    bandwidth: list[PositiveNumber]
    latency: list[NonNegativeNumber]


def read_astra_sim(path: str, facts: Facts) -> dict[str, Any]:
    """Return a topology file that names every NPU, switch and cable.

    Raises
    ------
    InputError
        The file is no such YAML, its lists differ in length, or there is more than a topology file may name.
    """
    document = read_document(path, "network")
    problems = Problems(document.locate)
    spec = validate(document, _NetworkSchema, problems)
    for key in ("npus_count", "bandwidth", "latency") if spec else ():
        if (given := len(getattr(spec, key))) != len(spec.topology if spec else ()):
            problems.add(
                f"network.{key}", f"has {given} entries for the {len(spec.topology if spec else ())} of topology"
            )
    problems.raise_if_any()
    assert spec
    sizes = spec.npus_count
    total = sum(_count(block, size) * (prod(sizes) // size) for block, size in zip(spec.topology, sizes, strict=True))
    if total > MAX_CABLES:
        refuse(
            document.locate("network.npus_count"), f"makes {total:,} cables; a topology file may name {MAX_CABLES:,}"
        )
    kind, block = choose_kind(facts.device, None, document.locate("network"))
    cluster = Cluster(path)
    for rank in range(prod(sizes)):
        cluster.add_device(f"npu{rank}", kind, f"node{rank // sizes[0]}" if len(sizes) > 1 else "")
    for dimension, name in enumerate(spec.topology):
        bandwidth = parse_bandwidth(f"{spec.bandwidth[dimension]} GiB/s")
        source = "As the imported file states it, per direction; its GB/s are 2^30 bytes/s."
        cable = Cable(bandwidth, parse_seconds(f"{spec.latency[dimension]} ns"), source)
        for number, group in enumerate(_groups(sizes, dimension)):
            _join(cluster, name, f"switch{dimension}-{number}", group, cable)
    shape = " x ".join(f"{name} {size}" for name, size in zip(spec.topology, sizes, strict=True))
    description = f"Imported from ASTRA-sim's network: {shape}. NPUs forward the traffic of others."
    if len(sizes) > 1:
        description += " The NPUs of the first dimension are taken for one node."
    return cluster.document({"description": description, "devices": {kind: block}}, transit=True)


def _count(block: Block, size: int) -> int:
    """Cables of one building block."""
    return size * (size - 1) // 2 if block == "FullyConnected" else size


def _groups(sizes: Sequence[int], dimension: int) -> Iterator[list[str]]:
    """The NPUs that differ in one coordinate only, for each choice of the others; the first coordinate runs fastest."""
    strides = [prod(sizes[:i]) for i in range(len(sizes))]
    others = [i for i in range(len(sizes)) if i != dimension]
    for coordinates in product(*(range(sizes[i]) for i in reversed(others))):
        first = sum(x * strides[i] for x, i in zip(coordinates, reversed(others), strict=True))
        yield [f"npu{first + k * strides[dimension]}" for k in range(sizes[dimension])]


def _join(cluster: Cluster, block: Block, switch: str, group: Sequence[str], cable: Cable) -> None:
    if len(group) < 2:
        return
    if block == "Switch":
        cluster.add_switch(switch)
        for npu in group:
            cluster.join(npu, switch, cable)
    elif block == "FullyConnected" or len(group) == 2:
        for one, other in combinations(group, 2):
            cluster.join(one, other, cable)
    else:
        for i, npu in enumerate(group):
            cluster.join(npu, group[(i + 1) % len(group)], cable)
