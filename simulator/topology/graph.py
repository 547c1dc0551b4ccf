"""Builds a topology in which every device, switch and cable has a name (`graph`)."""

from collections import Counter
from collections.abc import Mapping
from itertools import groupby

from simulator.errors import Problems, quote
from simulator.topology.device import Device, Host
from simulator.topology.host_share import share_host
from simulator.topology.layout import Layout
from simulator.topology.links import listed_links
from simulator.topology.routes import GraphRouter, Paths, unreached
from simulator.topology.schema import GraphSchema, TopologySchema
from simulator.topology.topology import Topology
from simulator.topology.wiring import Wiring, listed, suggest


def build_graph(
    spec: TopologySchema,
    graph: GraphSchema,
    devices: Mapping[str, Device],
    sources: Mapping[str, str],
    problems: Problems,
) -> Topology | None:
    """Build what the graph names; None when a problem was found, which is then in `problems`."""
    checks = [_check_names(graph, devices, problems), _check_nodes(graph, problems)]
    if spec.nodes != 1 or spec.fabric is not None:
        unused = "nodes" if spec.nodes != 1 else "fabric"
        problems.add(f"topology.{unused}", "belongs to a node template; graph names everything", f"remove {unused}")
        checks.append(False)
    wiring = Wiring({name: [name] for name in [*graph.devices, *graph.switches]})
    checks += [wiring.add(f"topology.graph.links.{i}", cable, problems) for i, cable in enumerate(graph.links)]
    if not all(checks):
        return None
    links, names = wiring.links(), list(graph.devices)
    closed = set() if graph.transit else set(names)
    gap = unreached(names, links, closed)
    if gap is not None:
        through = "join them, or write transit: true if devices forward the traffic of others"
        hint = "join them" if unreached(names, links, set()) else through
        problems.add("topology.graph.links", f"no route from {gap[0]} to {listed(gap[1])}", hint)
        return None
    counts = [len(members) for members in graph.nodes.values()] or [len(names)]
    sizes = [count for count in counts for _ in range(count)]
    shared = {
        each: share_host(devices[each[0]], None, each[1]) for each in zip(graph.devices.values(), sizes, strict=True)
    }
    return Topology(
        name=spec.name,
        description=spec.description,
        devices=tuple(shared[each] for each in zip(graph.devices.values(), sizes, strict=True)),
        hosts=tuple(Host(index=index) for index in range(len(counts))),
        layout=Layout([(len(list(alike)), count) for count, alike in groupby(counts)]),
        links=listed_links(links),
        router=GraphRouter(Paths(links, closed), names),
        sources=sources,
    )


def _check_names(graph: GraphSchema, devices: Mapping[str, Device], problems: Problems) -> bool:
    right = True
    for name, kind in graph.devices.items():
        if kind not in devices:
            problems.add(
                f"topology.graph.devices.{name}", f"{quote(kind)} is not under devices", suggest(kind, devices)
            )
            right = False
    for i, name in enumerate(graph.switches):
        if name in graph.devices or name in graph.switches[:i]:
            problems.add(f"topology.graph.switches.{i}", f"{quote(name)} names something else already")
            right = False
    return right


def _check_nodes(graph: GraphSchema, problems: Problems) -> bool:
    """Each device is in one node, and ranks fill one node after the other."""
    if not graph.nodes:
        return True
    key, given = "topology.graph.nodes", [name for members in graph.nodes.values() for name in members]
    for node, members in graph.nodes.items():
        for i, name in enumerate(members):
            if name not in graph.devices:
                problems.add(f"{key}.{node}.{i}", f"{quote(name)} is no device", suggest(name, graph.devices))
                return False
    counts = Counter(given)
    twice = [name for name, count in counts.items() if count > 1]
    missing = [name for name in graph.devices if name not in counts]
    if twice or missing:
        fault = f"{listed(twice)} is there twice" if twice else f"{listed(missing)} is in no node"
        problems.add(key, fault, "name every device once")
        return False
    moved = next((pair for pair in zip(graph.devices, given, strict=True) if pair[0] != pair[1]), None)
    if moved is not None:
        hint = "order graph.devices node by node, for ranks fill one node after the other"
        problems.add(key, f"{moved[1]} stands where graph.devices has {moved[0]}", hint)
    return moved is None
