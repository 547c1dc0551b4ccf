"""A cluster as an SVG picture: devices in rows with their switches above and below, or on a circle or a grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from html import escape
from math import cos, hypot, pi, sin

import networkx as nx

from simulator.reports.topology_excerpt import excerpt
from simulator.topology import Topology
from simulator.topology.fabrics.torus import Torus
from simulator.units import format_bandwidth

MAX_PICTURED = 256
"""Ranks up to which a picture of all can be read."""

STEP, ROW, GAP, EDGE = 56.0, 110.0, 40.0, 70.0
"""Pixels between devices of a node, between rows, between nodes, and around all."""

CLOSE, MANY = 36.0, 40
"""Pixels between the devices of a node that has more than so many."""

SLOPE, HIGH = 0.1, 3 * ROW
"""Rows are this part of the width apart, up to so many pixels: lines to one switch must not lie on each other."""

DEVICES = ("#5b8ff9", "#f6bd16", "#5ad8a6", "#9270ca")
CABLES = ("#7a7a7a", "#d9534f", "#2a9d8f", "#8e5ea2", "#c98a1b", "#3a6ea5")
"""Colours of the kinds of device, and of the classes of cable."""

Point = tuple[float, float]


def svg(topology: Topology) -> str:
    """The picture; of a large cluster, of some nodes that stand for the others."""
    graph, part = excerpt(topology, MAX_PICTURED)
    places = _on_a_plane(topology, graph) if _is_flat(topology, graph) else _in_rows(graph)
    bends = [_middle(places[one], places[other], places.values()) for one, other in graph.edges]
    xs, ys = zip(*places.values(), *bends, strict=True)
    left, top = min(xs) - EDGE, min(ys) - EDGE
    places = {name: (x - left, y - top) for name, (x, y) in places.items()}
    classes = sorted({edge["bandwidth"] for _, _, edge in graph.edges(data=True)}, reverse=True)
    width = max(max(xs) - left + EDGE, 320.0)
    height = max(ys) - top + EDGE + 18 * len(classes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        'font-family="sans-serif" font-size="10">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
        f'<text x="12" y="20" font-size="14">{escape(topology.name)}</text>',
        f'<text x="12" y="36">{escape(part)}</text>',
    ]
    parts += _cables(graph, places, classes)
    parts += _vertices(topology, graph, places)
    for i, bandwidth in enumerate(classes):
        y = height - 18 * (len(classes) - i) + 4
        parts.append(f'<line x1="12" y1="{y}" x2="40" y2="{y}" stroke="{_colour(i)}" stroke-width="3"/>')
        parts.append(f'<text x="48" y="{y + 4}">{format_bandwidth(bandwidth)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _colour(index: int) -> str:
    return CABLES[index % len(CABLES)]


def _is_flat(topology: Topology, graph: nx.DiGraph[str]) -> bool:
    """Whether nodes or devices are joined directly, without switches above them."""
    direct = topology.fabric is not None and topology.fabric.direct
    return direct or all("rank" in graph.nodes[name] for name in graph)


def _node_of(name: str) -> str:
    """`node3` for what belongs to a node, else nothing."""
    node, slash, _ = name.partition("/")
    return node if slash and node.startswith("node") else ""


def _in_rows(graph: nx.DiGraph[str]) -> dict[str, Point]:
    """Devices side by side, switches above what hangs on them; switches that only join devices of a node below."""
    levels = _levels(graph)
    places: dict[str, Point] = {}
    x, before = 0.0, ""
    devices = [name for name in graph if levels[name] == 0]
    step = STEP if max(Counter(map(_node_of, devices)).values()) <= MANY else CLOSE
    for name in devices:
        x += step + (GAP if before and _node_of(name) != before else 0)
        before = _node_of(name)
        places[name] = (x, 0.0)
    high = min(max(ROW, SLOPE * x), HIGH)
    for level in sorted(set(levels.values()) - {0}, key=lambda level: (abs(level), level)):
        row = [name for name in levels if levels[name] == level]
        wanted = {name: _mean([places[other][0] for other in graph[name] if other in places]) for name in row}
        end = float("-inf")
        for name in sorted(row, key=lambda name: wanted[name]):
            end = max(wanted[name], end + 1.6 * STEP)
            places[name] = (end, -level * high)
    return places


def _levels(graph: nx.DiGraph[str]) -> dict[str, int]:
    """Rows: 0 for devices, 1 for the switches above them, and so on; -1 for switches below."""
    devices = {name for name in graph if "rank" in graph.nodes[name]}
    levels = dict.fromkeys(devices, 0)
    reached = nx.multi_source_dijkstra_path_length(graph, devices, weight=lambda *_: 1)
    for name in graph:
        if name in devices:
            continue
        # A switch that only devices of its own node plug into, which also have a way up, does not lie on that way.
        own = _node_of(name) and all(_node_of(other) == _node_of(name) for other in graph[name])
        up = own and any(_node_of(above) == "" for other in graph[name] for above in graph[other])
        levels[name] = -1 if up and all(other in devices for other in graph[name]) else int(reached[name])
    # What belongs to no node lies above all that does.
    free = [name for name in levels if levels[name] > 0 and not _node_of(name)]
    inside = max(level for name, level in levels.items() if _node_of(name) or level <= 0)
    lift = max(0, inside + 1 - min((levels[name] for name in free), default=inside + 1))
    return {name: levels[name] + lift * (name in free) for name in graph}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _on_a_plane(topology: Topology, graph: nx.DiGraph[str]) -> dict[str, Point]:
    """Nodes on a grid or a circle, and what else belongs to a node around it."""
    at = topology.fabric.attach if topology.fabric is not None else None
    nodes = [at(node, 0) for node in range(topology.num_nodes)] if at else list(graph)
    centres = {name: i for i, name in enumerate(nodes) if name in graph}
    fabric = topology.fabric
    dims = fabric.dims if isinstance(fabric, Torus) and len(fabric.dims) > 1 else ()
    others = [name for name in graph if name not in centres]
    reach = 2.2 * STEP if others or len(dims) > 2 else 1.4 * STEP
    count = len(centres)
    places = {
        name: _grid(i, dims, reach) if dims else _circle(place, count, reach)
        for place, (name, i) in enumerate(centres.items())
    }
    by_node: dict[str, list[str]] = {}
    for name in others:
        by_node.setdefault(_node_of(name), []).append(name)
    for centre in centres:
        around = by_node.get(_node_of(centre), [])
        for i, name in enumerate(around):
            x, y = _circle(i, len(around), 0.0)
            radius = hypot(x, y) or 1.0
            places[name] = (places[centre][0] + x / radius * 0.8 * STEP, places[centre][1] + y / radius * 0.8 * STEP)
    return places


def _grid(index: int, dims: Sequence[int], reach: float) -> Point:
    """The last two dimensions across and down, those before them in oblique steps, as one draws a cube."""
    coordinates = []
    for size in reversed(dims):
        index, coordinate = divmod(index, size)
        coordinates.append(coordinate)
    x, y = coordinates[0] * reach, coordinates[1] * reach
    for depth, coordinate in enumerate(coordinates[2:], start=1):
        x += coordinate * reach * (0.3 if depth == 1 else dims[-1] + 1)
        y -= coordinate * reach * 0.2 * (depth == 1)
    return x, y


def _circle(index: int, count: int, reach: float) -> Point:
    radius = max(reach * count / (2 * pi), STEP)
    angle = 2 * pi * index / max(count, 1) - pi / 2
    return radius * cos(angle), radius * sin(angle)


def _cables(graph: nx.DiGraph[str], places: Mapping[str, Point], classes: Sequence[float]) -> list[str]:
    """One line a cable, in the colour of its bandwidth; two where the directions differ."""
    parts = []
    for one, other, edge in graph.edges(data=True):
        back = graph.get_edge_data(other, one)
        if back and back["bandwidth"] == edge["bandwidth"] and other < one:
            continue
        (x1, y1), (x2, y2) = places[one], places[other]
        middle = "{:.1f} {:.1f}".format(*_middle(places[one], places[other], places.values()))
        title = escape(f"{one}->{other}: {format_bandwidth(edge['bandwidth'])}")
        parts.append(
            f'<path d="M {x1:.1f} {y1:.1f} Q {middle} {x2:.1f} {y2:.1f}" fill="none" stroke-width="1.4" '
            f'stroke="{_colour(classes.index(edge["bandwidth"]))}"><title>{title}</title></path>'
        )
    return parts


def _middle(one: Point, other: Point, places: Collection[Point]) -> Point:
    """Where a cable is drawn towards: one that would cross others of its row or column runs beside them."""
    (x1, y1), (x2, y2) = one, other
    left, right, top, bottom = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    across = y1 == y2 and any(y == y1 and left < x < right for x, y in places)
    down = x1 == x2 and any(x == x1 and top < y < bottom for x, y in places)
    bend = min(0.3 * hypot(right - left, bottom - top), 1.6 * ROW)
    return (x1 + x2) / 2 + bend * down, (y1 + y2) / 2 + bend * across


def _vertices(topology: Topology, graph: nx.DiGraph[str], places: Mapping[str, Point]) -> list[str]:
    """Circles for devices, boxes for switches, with the part of the name that tells them apart in their node."""
    kinds = list(dict.fromkeys(device.kind for device in topology.devices))
    parts = []
    for name, (x, y) in places.items():
        rank = graph.nodes[name].get("rank")
        title = f"<title>{escape(name)}</title>"
        if rank is not None:
            colour = DEVICES[kinds.index(topology.device(rank).kind) % len(DEVICES)]
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="15" fill="{colour}" stroke="white">{title}</circle>')
            label = str(rank)
        else:
            label = name.removeprefix(f"{_node_of(name)}/") if _node_of(name) else name
            wide = max(34.0, 6.2 * len(label) + 8)
            parts.append(
                f'<rect x="{x - wide / 2:.1f}" y="{y - 11:.1f}" width="{wide:.1f}" height="22" rx="4" '
                f'fill="#e8e8e8" stroke="#9a9a9a">{title}</rect>'
            )
        parts.append(f'<text x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle">{escape(label)}</text>')
    return parts
