"""A small cluster as a drawing for the terminal: what hangs on each switch, and which devices are joined directly."""

from collections.abc import Iterator

import networkx as nx
from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from simulator.topology import Topology
from simulator.units import format_bandwidth, format_seconds

MAX_DRAWN = 80
"""Ranks up to which there is a drawing; larger ones would fill screens."""


def draw(topology: Topology) -> RenderableType | None:
    """The drawing, None for clusters that are too large for one."""
    if topology.world_size > MAX_DRAWN or topology.world_size < 2:
        return None
    graph = topology.graph()
    switches = [name for name in graph if "rank" not in graph.nodes[name]]
    drawn: set[str] = set()
    parts: list[RenderableType] = []
    for name in [*switches, *(name for name in graph if name not in set(switches))]:
        rows = list(_rows(graph, name, drawn))
        drawn.add(name)
        if rows:
            tree = Tree(Text(name))
            for row in rows:
                tree.add(Text(row))
            parts.append(tree)
    return Group(*parts)


def _rows(graph: "nx.DiGraph[str]", name: str, drawn: set[str]) -> Iterator[str]:
    """One line for neighbours in a row that are joined by equal cables."""
    groups: list[tuple[str, list[str]]] = []
    for neighbour in graph[name]:
        if neighbour in drawn:
            continue
        edge, back = graph[name][neighbour], graph.get_edge_data(neighbour, name)
        cable = f"{format_bandwidth(edge['bandwidth'])}, {format_seconds(edge['latency'])}"
        if back and back["bandwidth"] != edge["bandwidth"]:
            cable += f" (back {format_bandwidth(back['bandwidth'])})"
        if not groups or groups[-1][0] != cable:
            groups.append((cable, []))
        groups[-1][1].append(neighbour)
    for cable, names in groups:
        many = f"{len(names)} x " if len(names) > 1 else ""
        yield f"{_run(names)}: {many}{cable}"


def _run(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{names[0]} ... {names[-1]}"
