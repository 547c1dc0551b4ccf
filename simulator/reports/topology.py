"""What a topology holds: as plain values for programs, as tables for people."""

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.topology import Device, Topology
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
        (bytes/s) and latency (seconds). `paths`: latency (alpha, seconds) and bottleneck bandwidth (1/beta, bytes/s) of
        representative routes from rank 0. `sources`: where the numbers come from.
    """
    host = topology.hosts[0]
    return {
        "name": topology.name,
        "description": topology.description,
        "world_size": topology.world_size,
        "num_nodes": topology.num_nodes,
        "host": {"cores": host.cores, "memory": host.memory},
        "devices": _devices(topology),
        "links": _link_classes(topology),
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
    parts += [_device_table(values), _link_table(values)]
    if values["paths"]:
        parts.append(_path_table(values))
    parts.append(_source_table(values))
    return Group(*parts)


def _devices(topology: Topology) -> list[dict[str, Any]]:
    counts: dict[str, int] = {}
    kinds: dict[str, Device] = {}
    for device in topology.devices:
        counts[device.kind] = counts.get(device.kind, 0) + 1
        kinds.setdefault(device.kind, device)
    return [
        {
            "kind": kind,
            "count": counts[kind],
            "backend": device.backend,
            "memory": device.memory,
            "memory_bandwidth": device.memory_bandwidth,
            "peak": dict(device.peak),
            "efficiency": {"matmul": device.efficiency.matmul, "memory": device.efficiency.memory},
            "launch_overhead": device.launch_overhead,
            "speed": device.speed,
        }
        for kind, device in kinds.items()
    ]


def _link_classes(topology: Topology) -> list[dict[str, Any]]:
    classes: dict[tuple[float, float], dict[str, Any]] = {}
    for link in topology.links:
        new = {"example": link.name, "count": 0, "bandwidth": link.bandwidth, "latency": link.latency}
        classes.setdefault((link.bandwidth, link.latency), new)["count"] += 1
    return list(classes.values())


def _destinations(topology: Topology) -> Iterator[tuple[str, int]]:
    """Ranks that stand for all that rank 0 can talk to: a neighbour, the farthest of its node, one in another node."""
    per_node = topology.devices_per_node
    if per_node > 1:
        yield "same node", 1
        hops = [len(topology.route(0, rank).links) for rank in range(per_node)]
        if max(hops) > hops[1]:
            yield "same node, farthest", hops.index(max(hops))
    if topology.num_nodes > 1:
        yield "other node", per_node


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
        reached = device["efficiency"]
        table.add_row(
            device["kind"] + slow,
            device["backend"],
            format_bytes(device["memory"]),
            format_bandwidth(device["memory_bandwidth"]),
            "\n".join(f"{dtype} {format_flop_rate(rate)}" for dtype, rate in device["peak"].items()),
            f"matmul {format_percent(reached['matmul'])}\nmemory {format_percent(reached['memory'])}",
            str(device["count"]),
        )
    return table


def _link_table(values: dict[str, Any]) -> Table:
    table = Table("links (one direction), for example", "bandwidth", "latency")
    table.add_column("count", justify="right")
    for link in values["links"]:
        bandwidth, latency = format_bandwidth(link["bandwidth"]), format_seconds(link["latency"])
        table.add_row(Text(link["example"]), bandwidth, latency, str(link["count"]))
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
