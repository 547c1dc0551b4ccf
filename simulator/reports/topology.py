"""What a topology holds: as plain values for programs, as tables for people."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.reports.topology_drawing import draw
from simulator.topology import Device, Topology
from simulator.topology.properties import bisection, diameter, oversubscription
from simulator.units import (
    format_bandwidth,
    format_bytes,
    format_flop_rate,
    format_percent,
    format_seconds,
)


def describe(topology: Topology) -> dict[str, Any]:
    """The topology as plain values (str, int, float, list, dict), ready for JSON.

    Returns
    -------
    dict
        `devices`: one entry a kind, with its `count`. `links`: one entry a class of directed links that share bandwidth
        (bytes/s) and latency (seconds). `bisection` (bytes/s), `oversubscription` (1) and `diameter` (links, seconds).
        `paths`: latency (alpha, seconds) and bottleneck bandwidth (1/beta, bytes/s) of representative routes from
        rank 0. `sources`: where the numbers come from.
    """
    host, longest = topology.hosts[0], diameter(topology)
    return {
        "name": topology.name,
        "description": topology.description,
        "world_size": topology.world_size,
        "num_nodes": topology.num_nodes,
        "host": {"cores": host.cores, "memory": host.memory},
        "devices": _devices(topology),
        "links": _link_classes(topology),
        "bisection": bisection(topology),
        "oversubscription": oversubscription(topology),
        "diameter": {"hops": longest.hops, "latency": longest.latency},
        "paths": [_path(topology, label, rank) for label, rank in _destinations(topology)],
        "sources": dict(topology.sources),
    }


def render(topology: Topology) -> RenderableType:
    """The topology as tables for the terminal."""
    values = describe(topology)
    nodes, ranks = values["num_nodes"], values["world_size"]
    head = f"{values['name']}: {ranks} rank{'s'[: ranks != 1]} on {nodes} node{'s'[: nodes != 1]}"
    parts: list[RenderableType] = [Text(head, style="bold")]
    if values["description"]:
        parts.append(Text(values["description"]))
    cores, memory = values["host"]["cores"], values["host"]["memory"]
    if cores is not None:
        shared = f" and {format_bytes(memory)}" if memory is not None else ""
        parts.append(Text(f"the ranks of a node share {cores} core{'s'[: cores != 1]}{shared}"))
    drawing = draw(topology)
    if drawing is not None:
        parts.append(drawing)
    parts += [_device_table(values), _link_table(values)]
    if values["paths"]:
        parts += [_whole_table(values), _path_table(values)]
    parts.append(_source_table(values))
    return Group(*parts)


def _devices(topology: Topology) -> list[dict[str, Any]]:
    # Equal devices are nearly always one object, and a hundred thousand of them take long to compare.
    objects = {id(device): device for device in topology.devices}
    counts: Counter[Device] = Counter()
    for key, count in Counter(map(id, topology.devices)).items():
        counts[objects[key]] += count
    return [
        {
            "kind": device.kind,
            "count": count,
            "backend": device.backend,
            "memory": device.memory,
            "memory_bandwidth": device.memory_bandwidth,
            "peak": dict(device.peak),
            "efficiency": asdict(device.efficiency),
            "efficiency_source": device.efficiency_source,
            "library": device.library,
            "launch_overhead": device.launch_overhead,
            "speed": device.speed,
        }
        for device, count in counts.items()
    ]


def _link_classes(topology: Topology) -> list[dict[str, Any]]:
    return [
        {"example": topology.links[first].name, "count": count, "bandwidth": bandwidth, "latency": latency}
        for first, count, bandwidth, latency in topology.links.classes()
    ]


def _destinations(topology: Topology) -> Iterator[tuple[str, int]]:
    """Ranks that stand for all that rank 0 can talk to: a neighbour, the farthest of its node, those in other nodes."""
    local = topology.layout.ranks(0)
    if len(local) > 1:
        yield "same node", 1
        hops = [len(topology.route(0, rank).links) for rank in local]
        if max(hops) > hops[1]:
            yield "same node, farthest", hops.index(max(hops))
    if topology.fabric is None and topology.num_nodes > 1:
        others = range(len(local), topology.world_size)
        hops = [len(topology.route(0, rank).links) for rank in others]
        yield "other node", others[0]
        if max(hops) > hops[0]:
            yield "other node, farthest", others[hops.index(max(hops))]
    for label, node, card in topology.fabric.landmarks() if topology.fabric else ():
        ranks = topology.layout.ranks(node)
        yield label, ranks[min(card, len(ranks) - 1)]


def _path(topology: Topology, label: str, rank: int) -> dict[str, Any]:
    route = topology.route(0, rank)
    return {
        "path": label,
        "from": 0,
        "to": rank,
        "links": [topology.links[i].name for i in route.links],
        "latency": route.latency,
        "bandwidth": topology.bottleneck(route),
    }


def _device_table(values: dict[str, Any]) -> Table:
    table = Table("device", "backend", "memory", "memory bandwidth", "dense peak", "reached by large kernels")
    table.add_column("count", justify="right")
    for device in values["devices"]:
        slow = "" if device["speed"] == 1 else f" (speed {format_percent(device['speed'])})"
        library = f"\nfrom {device['library']}" if device["library"] else ""
        table.add_row(
            device["kind"] + slow + library,
            device["backend"],
            format_bytes(device["memory"]),
            format_bandwidth(device["memory_bandwidth"]),
            "\n".join(f"{dtype} {format_flop_rate(rate)}" for dtype, rate in device["peak"].items()),
            "\n".join(f"{what} {format_percent(fraction)}" for what, fraction in _reached(device["efficiency"])),
            str(device["count"]),
        )
    return table


def _reached(efficiency: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield "matmul", efficiency["matmul"]
    yield from ((f"matmul {dtype}", fraction) for dtype, fraction in efficiency["by_dtype"].items())
    if attention := efficiency["attention"]:
        yield "attention", attention["forward"]
        yield "attention backward", attention["backward"]
    yield "memory", efficiency["memory"]


def _link_table(values: dict[str, Any]) -> Table:
    table = Table("links (one direction), for example", "bandwidth", "latency")
    table.add_column("count", justify="right")
    for link in values["links"]:
        bandwidth, latency = format_bandwidth(link["bandwidth"]), format_seconds(link["latency"])
        table.add_row(Text(link["example"]), bandwidth, latency, str(link["count"]))
    return table


def _whole_table(values: dict[str, Any]) -> Table:
    across, ratio, longest = values["bisection"], values["oversubscription"], values["diameter"]
    table = Table("the whole", "")
    table.add_row("bisection, one direction", "not searched for" if across is None else format_bandwidth(across))
    if ratio is not None:
        table.add_row("oversubscription", f"{ratio:.3g}:1")
    hops = longest["hops"]
    table.add_row("diameter", f"{hops} link{'s'[: hops != 1]}, {format_seconds(longest['latency'])}")
    return table


def _path_table(values: dict[str, Any]) -> Table:
    table = Table("path", "ranks", "latency (alpha)", "bottleneck bandwidth (1/beta)", "over")
    for path in values["paths"]:
        table.add_row(
            path["path"],
            f"{path['from']} to {path['to']}",
            format_seconds(path["latency"]),
            format_bandwidth(path["bandwidth"]),
            Text("\n".join(path["links"])),
        )
    return table


def _source_table(values: dict[str, Any]) -> Table:
    table = Table("numbers of", "come from")
    for what, source in values["sources"].items():
        table.add_row(Text(what), Text(source))
    return table
