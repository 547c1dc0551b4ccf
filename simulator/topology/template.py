"""Builds a topology from one node that is repeated: `node`, `nodes`, `fabric`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from simulator.errors import Problems, quote
from simulator.topology.device import Device, Host
from simulator.topology.link import FABRIC, Link, RepeatedLinks
from simulator.topology.routes import Paths, TemplateRouter, unreached
from simulator.topology.schema import NodeSchema, SwitchFabricSchema, TopologySchema
from simulator.topology.topology import Topology
from simulator.topology.wiring import Wiring, directed, listed, suggest

MAX_DEVICES_PER_NODE = 1024
MAX_RANKS = 1024 * MAX_DEVICES_PER_NODE


def build_template(
    spec: TopologySchema,
    node: NodeSchema,
    devices: Mapping[str, Device],
    sources: Mapping[str, str],
    problems: Problems,
) -> Topology | None:
    """Expand the template; None when a problem was found, which is then in `problems`."""
    names = [f"device{i}" for i in range(min(node.count, MAX_DEVICES_PER_NODE))]
    ends = {"device": names, **{name: [name] for name in names}, **{name: [name] for name in node.switches}}
    checks = [
        _check_sizes(spec.nodes, node, problems),
        _check_kind(node, devices, problems),
        _check_switches(node.switches, problems),
        _check_joined(spec, node, problems),
    ]
    wiring = Wiring(ends)
    checks += [wiring.add(f"topology.node.links.{i}", cable, problems) for i, cable in enumerate(node.links)]
    checks += [_check_uplink(i, uplink.origin, ends, problems) for i, uplink in enumerate(node.uplinks)]
    if not all(checks):
        return None

    inside = wiring.links()
    outward = _uplinks(node, ends) if spec.fabric is not None else []
    inward = [_downlink(link, spec.fabric) for link in outward] if spec.fabric is not None else []
    paths = Paths(inside, closed=set(names))
    out, into = _ways_out(names, paths, outward, first=len(inside))
    if not _check_reachable(names, inside, out, problems):
        return None
    pattern = inside + outward + inward
    host = node.host
    return Topology(
        name=spec.name,
        description=spec.description,
        devices=(devices[node.device],) * (node.count * spec.nodes),
        hosts=tuple(
            Host(index=k, cores=host.cores if host else None, memory=host.memory if host else None)
            for k in range(spec.nodes)
        ),
        links=RepeatedLinks(pattern, spec.nodes),
        router=TemplateRouter(paths, names, out, into, len(pattern)),
        sources=sources,
    )


def _check_sizes(nodes: int, node: NodeSchema, problems: Problems) -> bool:
    if node.count > MAX_DEVICES_PER_NODE:
        problems.add("topology.node.count", f"{node.count} is more than the {MAX_DEVICES_PER_NODE} a node may have")
        return False
    if nodes * node.count > MAX_RANKS:
        product = f"{nodes} nodes x {node.count} devices = {nodes * node.count} ranks"
        problems.add("topology.nodes", f"{product}, more than the {MAX_RANKS} there may be")
        return False
    return True


def _check_kind(node: NodeSchema, devices: Mapping[str, Device], problems: Problems) -> bool:
    if node.device not in devices:
        problems.add(
            "topology.node.device", f"{quote(node.device)} is not under devices", suggest(node.device, devices)
        )
        return False
    return True


def _check_switches(switches: Sequence[str], problems: Problems) -> bool:
    right = True
    for i, name in enumerate(switches):
        key = f"topology.node.switches.{i}"
        if re.fullmatch(rf"device\d*|{FABRIC}", name):
            problems.add(key, f"{quote(name)} already means something in a node", "choose another name")
        elif name in switches[:i]:
            problems.add(key, f"{quote(name)} is there twice")
        else:
            continue
        right = False
    return right


def _check_joined(spec: TopologySchema, node: NodeSchema, problems: Problems) -> bool:
    """More than one node needs a fabric, and uplinks to it."""
    right = True
    if spec.nodes > 1 and spec.fabric is None:
        hint = "write fabric: {kind: switch, latency: 1 us, source: ...}"
        problems.add("topology.fabric", f"is missing, and nothing else joins the {spec.nodes} nodes", hint)
        right = False
    if spec.nodes > 1 and not node.uplinks:
        hint = "write uplinks: [{from: device, bandwidth: 200 Gb/s, latency: 2 us, source: ...}]"
        problems.add("topology.node.uplinks", f"is missing, and nothing else joins the {spec.nodes} nodes", hint)
        right = False
    return right


def _check_uplink(i: int, origin: str, ends: Mapping[str, Sequence[str]], problems: Problems) -> bool:
    if origin not in ends:
        key = f"topology.node.uplinks.{i}.from"
        problems.add(key, f"{quote(origin)} is no device or switch of the node", suggest(origin, ends))
        return False
    return True


def _uplinks(node: NodeSchema, ends: Mapping[str, Sequence[str]]) -> list[Link]:
    """One link to the fabric for each network card; several at one place get numbered names."""
    links: list[Link] = []
    for uplink in node.uplinks:
        for origin in ends[uplink.origin]:
            link = directed(origin, FABRIC, uplink.bandwidth, uplink.latency)
            earlier = sum(other.source == origin for other in links)
            links.append(replace(link, name=f"{link.name}#{earlier}") if earlier else link)
    return links


def _downlink(uplink: Link, fabric: SwitchFabricSchema) -> Link:
    """The way back from the fabric; it carries the fabric's own latency, so that routes need no special case."""
    back = directed(FABRIC, uplink.source, uplink.bandwidth, uplink.latency + fabric.latency)
    number = uplink.name.partition("#")[1:]
    return replace(back, name=back.name + "".join(number))


def _ways_out(
    names: Sequence[str], paths: Paths, uplinks: Sequence[Link], first: int
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """For each device the links to the fabric and back, over its nearest network card; () where there is none.

    Devices that find several cards equally near take turns. A card on another device is out of reach, because devices
    forward nothing. `first` is the id of the first uplink; the downlinks follow the uplinks.
    """
    cards: dict[str, list[int]] = {}
    for k, uplink in enumerate(uplinks):
        cards.setdefault(uplink.source, []).append(k)
    switches = [place for place in cards if place not in set(names)]
    out: list[tuple[int, ...]] = []
    into: list[tuple[int, ...]] = []
    for i, name in enumerate(names):
        places = [name] if name in cards else switches
        ways = {place: way for place in places if (way := paths.find(name, place)) is not None}
        nearest = min(map(len, ways.values()), default=0)
        choice = [(place, k) for place, way in ways.items() if len(way) == nearest for k in cards[place]]
        if not choice:
            out.append(())
            into.append(())
            continue
        place, k = choice[i % len(choice)]
        out.append((*ways[place], first + k))
        into.append((first + len(uplinks) + k, *(paths.find(place, name) or ())))
    return out, into


def _check_reachable(
    names: Sequence[str], inside: Sequence[Link], out: Sequence[tuple[int, ...]], problems: Problems
) -> bool:
    """Each device reaches each other, inside the node or over the fabric."""
    lonely = [name for name, way in zip(names, out, strict=True) if not way]
    if not lonely:
        return True
    if len(lonely) < len(names):
        problems.add("topology.node.uplinks", f"{listed(lonely)} cannot reach the fabric")
        return False
    gap = unreached(names, inside, closed=set(names))
    if gap is not None:
        hint = "join both to one switch; devices forward nothing for others"
        problems.add("topology.node.links", f"no route from {gap[0]} to {listed(gap[1])}", hint)
    return gap is None
