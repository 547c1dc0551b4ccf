"""Builds a topology from nodes that repeat (`node`, `nodes`) and what joins them (`fabric`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from simulator.errors import Problems
from simulator.topology.device import Device
from simulator.topology.fabrics import DirectSchema, Fabric, FabricSchema, build_fabric, seed_of
from simulator.topology.layout import Layout
from simulator.topology.link import FABRIC
from simulator.topology.links import Ends, Links, Section
from simulator.topology.node import MAX_DEVICES_PER_NODE, NodeTemplate, build_node
from simulator.topology.schema import NodeSchema, TopologySchema
from simulator.topology.template_router import TemplateRouter
from simulator.topology.topology import Topology

MAX_RANKS = 1024 * MAX_DEVICES_PER_NODE

Group = tuple[str, NodeSchema, int]
"""Where a node stands in the file, the node, and how many of it there are."""


def node_groups(spec: TopologySchema) -> list[Group]:
    """The groups of equal nodes that the file describes; none for a graph."""
    if isinstance(spec.nodes, int):
        return [("topology.node", spec.node, spec.nodes)] if spec.node is not None else []
    return [(f"topology.nodes.{i}.node", group.node, group.count) for i, group in enumerate(spec.nodes)]


def build_template(
    spec: TopologySchema,
    groups: Sequence[Group],
    devices: Mapping[str, Device],
    sources: Mapping[str, str],
    problems: Problems,
) -> Topology | None:
    """Expand the template; None when a problem was found, which is then in `problems`."""
    num_nodes = sum(count for _, _, count in groups)
    direct = isinstance(spec.fabric, DirectSchema)
    at = (spec.fabric.at or "device0") if isinstance(spec.fabric, DirectSchema) else ""
    checks = [_check_sizes(groups, problems), _check_joined(spec.fabric, num_nodes, groups, problems)]
    plugged = spec.fabric is not None and not direct
    nodes = [build_node(key, node, devices, plugged, at, problems) for key, node, _ in groups]
    built = [node for node in nodes if node is not None]
    if not all(checks) or len(built) < len(nodes):
        return None
    fabric = None
    if spec.fabric is not None:
        fabric = build_fabric(spec.fabric, num_nodes, _cards(built), at, problems)
        if fabric is None:
            return None
    layout = Layout([(count, node.count) for _, node, count in groups])
    return Topology(
        name=spec.name,
        description=spec.description,
        devices=tuple(device for node, ranks in _repeated(built, layout) for device in (node.device,) * ranks),
        hosts=tuple(replace(built[group].host, index=k) for k in range(num_nodes) for group in [layout.group(k)[0]]),
        layout=layout,
        links=Links([*_node_sections(built, layout, fabric), *(fabric.sections() if fabric else [])]),
        fabric=fabric,
        router=TemplateRouter(layout, built, fabric, seed_of(spec.fabric), at),
        sources=sources,
    )


def _repeated(nodes: Sequence[NodeTemplate], layout: Layout) -> list[tuple[NodeTemplate, int]]:
    """For each group its node and how many ranks it has."""
    return [(node, count * ranks) for node, (count, ranks) in zip(nodes, layout.groups, strict=True)]


def _cards(nodes: Sequence[NodeTemplate]) -> list[float]:
    """Bytes/s of each network card of the widest node."""
    cards = [[uplink.bandwidth for uplink in node.uplinks] for node in nodes]
    return max(cards, key=sum)


def _check_sizes(groups: Sequence[Group], problems: Problems) -> bool:
    ranks = sum(node.count * count for _, node, count in groups)
    if ranks > MAX_RANKS:
        product = " + ".join(f"{count} nodes x {node.count} devices" for _, node, count in groups[:4])
        product += " + ..." * (len(groups) > 4)
        problems.add("topology.nodes", f"{product} = {ranks} ranks, more than the {MAX_RANKS} there may be")
    return ranks <= MAX_RANKS


def _check_joined(fabric: FabricSchema | None, num_nodes: int, groups: Sequence[Group], problems: Problems) -> bool:
    """More than one node needs a fabric, and uplinks to it if it is made of switches."""
    if num_nodes == 1:
        return True
    nothing = f"is missing, and nothing else joins the {num_nodes} nodes"
    if fabric is None:
        problems.add("topology.fabric", nothing, "write fabric: {kind: switch, latency: 1 us, source: ...}")
    bare = [key for key, node, _ in groups if not node.uplinks and not isinstance(fabric, DirectSchema)]
    for key in bare:
        hint = "write uplinks: [{from: device, bandwidth: 200 Gb/s, latency: 2 us, source: ...}]"
        problems.add(f"{key}.uplinks", nothing, hint)
    return fabric is not None and not bare


def _node_sections(nodes: Sequence[NodeTemplate], layout: Layout, fabric: Fabric | None) -> list[Section]:
    sections, first = [], 0
    for node, (count, _) in zip(nodes, layout.groups, strict=True):
        # What comes down from the fabric carries the latency of its last switch, so that routes need no special case.
        back = fabric.latency if fabric else 0.0
        numbers = [(link.bandwidth, link.latency) for link in (*node.inside, *node.uplinks)]
        numbers += [(link.bandwidth, link.latency + back) for link in node.uplinks]
        sections.append(Section(count, numbers, partial(_ends, node, fabric, first)))
        first += count
    return sections


def _ends(node: NodeTemplate, fabric: Fabric | None, first_node: int, index: int) -> Ends:
    """Endpoints of the i-th link of a group of nodes that begins with `first_node`."""
    repeat, j = divmod(index, node.num_links)
    prefix, inside = f"node{first_node + repeat}/", len(node.inside)
    if j < inside:
        link = node.inside[j]
        return Ends(prefix + link.source, prefix + link.destination)
    assert fabric is not None, "only nodes that plug into a fabric have network cards"
    outward, card = j - inside < len(node.uplinks), (j - inside) % len(node.uplinks)
    uplink = node.uplinks[card]
    suffix = uplink.name[len(f"{uplink.source}->{FABRIC}") :]
    node_end, fabric_end = prefix + uplink.source, fabric.attach(first_node + repeat, card)
    return Ends(node_end, fabric_end, suffix) if outward else Ends(fabric_end, node_end, suffix)
