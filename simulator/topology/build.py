"""From a validated topology file to a `Topology`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from simulator.errors import Problems
from simulator.topology.degrade import damaged
from simulator.topology.device import (
    DEFAULT_EFFICIENCY,
    DEFAULT_EFFICIENCY_SOURCE,
    AttentionEfficiency,
    Device,
    Efficiency,
)
from simulator.topology.device_schema import AttentionSchema, DeviceSchema, EfficiencySchema
from simulator.topology.graph import build_graph
from simulator.topology.host_share import own_host
from simulator.topology.lending import build_collectives
from simulator.topology.library import build_reducers
from simulator.topology.schema import NodeSchema, TopologySchema
from simulator.topology.template import build_template, node_groups
from simulator.topology.topology import Topology


def build_topology(spec: TopologySchema, problems: Problems) -> Topology | None:
    """Build the cluster that a topology file describes.

    Parameters
    ----------
    spec : TopologySchema
        The file, each value checked for itself.
    problems : Problems
        Gets everything that is wrong between values, with dotted keys (`topology.node.links.0.between`).

    Returns
    -------
    Topology or None
        None when a problem was found. In a topology every rank has a route to every other.
    """
    topology = _build_links(spec, problems)
    nodes = {key.removeprefix("topology."): node for key, node, _ in node_groups(spec)}
    reducers = build_reducers({**nodes, "graph": spec.graph}, problems)
    collectives = build_collectives(spec.collectives, problems)
    if topology is None:
        return None
    sources = {**topology.sources, **collectives.sources(topology.scopes)}
    return replace(topology, sources=sources, collectives=collectives, reducers=reducers)


def _build_links(spec: TopologySchema, problems: Problems) -> Topology | None:
    devices = {kind: build_device(kind, device) for kind, device in spec.devices.items()}
    templates = node_groups(spec)
    sources = _sources(spec, [node for _, node, _ in templates], devices)
    if not _check_form(spec, bool(templates), problems):
        return None
    if spec.graph is not None:
        built = build_graph(spec, spec.graph, devices, sources, problems)
    else:
        built = build_template(spec, templates, devices, sources, problems)
    return damaged(built, spec.degrade, spec.slow, problems) if built is not None else None


def _check_form(spec: TopologySchema, template: bool, problems: Problems) -> bool:
    """Either a template or a graph; a template has one node or groups of them."""
    if template and spec.graph is not None:
        problems.add("topology.graph", "stands beside node", "keep node (a template) or graph (everything by name)")
    elif spec.node is not None and not isinstance(spec.nodes, int):
        problems.add("topology.node", "stands beside a list of nodes", "write node and nodes: 2, or the list alone")
    elif not template and spec.graph is None:
        problems.add("topology", "has neither node nor graph", "write node (a template) or graph (everything by name)")
    else:
        return True
    return False


def build_device(kind: str, spec: DeviceSchema) -> Device:
    """Return the device that an entry of `devices:` describes, alone on its host."""
    given = spec.efficiency
    return Device(
        kind=kind,
        backend=spec.backend,
        memory=spec.memory,
        memory_bandwidth=spec.memory_bandwidth,
        peak={str(dtype): rate for dtype, rate in spec.peak.items()},
        efficiency=_efficiency(given) if given else DEFAULT_EFFICIENCY,
        efficiency_source=given.source if given else DEFAULT_EFFICIENCY_SOURCE,
        launch_overhead=spec.launch_overhead,
        host_launch=spec.host_launch,
        library=spec.origin or "",
        speed=spec.speed,
        overlap_slowdown=spec.overlap_slowdown.fraction if spec.overlap_slowdown else 0.0,
        host=own_host(spec),
        source=spec.source,
    )


def _efficiency(given: EfficiencySchema) -> Efficiency:
    return Efficiency(
        matmul=given.matmul,
        memory=given.memory,
        by_dtype={str(dtype): fraction for dtype, fraction in given.dtypes.items()},
        edge=given.edge,
        depth=given.depth,
        cast=given.cast or 0.0,
        attention=_attention(given.attention) if given.attention else None,
    )


def _attention(given: AttentionSchema) -> AttentionEfficiency:
    return AttentionEfficiency(
        forward=given.forward,
        backward=given.backward,
        edge=given.edge,
        rows=given.rows,
        over_flash2=given.over_flash2,
    )


def _sources(spec: TopologySchema, nodes: Sequence[NodeSchema], devices: Mapping[str, Device]) -> dict[str, str]:
    """Where the numbers come from, by what they describe; cables that share a source share an entry."""
    sources: dict[str, str] = {}
    for kind, device in devices.items():
        sources[f"device {kind}"] = device.source
        sources[f"efficiency of {kind}"] = device.efficiency_source
        overlap = spec.devices[kind].overlap_slowdown
        if overlap:
            sources[f"overlap of {kind}"] = overlap.source
    cables: dict[str, list[str]] = {}
    for node in nodes:
        whose = f" of {node.device} nodes" * (len(nodes) > 1)
        for cable in node.links:
            cables.setdefault(cable.source, []).append(" - ".join(cable.between) + whose)
    for cable in spec.graph.links if spec.graph else ():
        cables.setdefault(cable.source, []).append(" - ".join(cable.between))
    for source, ends in cables.items():
        sources[f"link {ends[0]}" + (f" and {len(ends) - 1} more" if len(ends) > 1 else "")] = source
    for i, uplink in enumerate(uplink for node in nodes for uplink in node.uplinks):
        sources[f"uplink {i} from {uplink.origin}"] = uplink.source
    if spec.fabric is not None:
        sources["fabric"] = spec.fabric.source
    return sources
