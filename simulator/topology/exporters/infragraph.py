"""A topology -> InfraGraph (https://infragraph.dev), whose schema is ``importers/infragraph_schema.py``.

Each node becomes an instance of a device; nodes that are built alike share one. What belongs to no node (the switches
of a fabric, or everything of an explicit graph) is a device of its own.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any, NoReturn

from simulator.errors import Diagnostic, InputError
from simulator.topology.topology import Topology
from simulator.units import parse_bandwidth, parse_seconds

MAX_LINKS = 200_000
"""Directed links; an InfraGraph file names every cable."""

_UNWRITABLE = re.compile(r"[^A-Za-z0-9_()-]+")
_OF_NODE = re.compile(r"(node[0-9]+)/.+", re.DOTALL)

_Rate = tuple[float, float]
_Cable = tuple[str, str, _Rate]
"""Two endpoints, and the bandwidth and latency that make a class of links."""


@dataclass(slots=True)
class _Owner:
    """A node, or what belongs to none: choice and count of its components, places of its endpoints, its own cables."""

    components: dict[str, tuple[str, int]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    cables: list[_Cable] = field(default_factory=list)

    def add(self, endpoint: str, component: str, choice: str) -> None:
        """Add an endpoint as one more of a component."""
        _, count = self.components.get(component, (choice, 0))
        self.components[component] = (choice, count + 1)
        self.places[endpoint] = f"{component}[{count}]"

    def shape(self) -> tuple[object, ...]:
        """Equal for owners that are built alike."""
        wiring = [(self.places[a], self.places[b], rate) for a, b, rate in self.cables]
        return tuple(self.components.items()), tuple(wiring)


def to_infragraph(topology: Topology) -> dict[str, Any]:
    """Return an InfraGraph infrastructure as plain data; XPUs in rank order, named after their device kind.

    Raises
    ------
    InputError
        The topology has more links than a file can name, or a cable that is not the same in both directions.
    """
    if len(topology.links) > MAX_LINKS:
        _refuse(
            topology, f"has {len(topology.links):,} directed links; {MAX_LINKS:,} can be written", "set fewer nodes"
        )
    cables = _cables(topology)
    owner_of = _owner_names(topology, cables)
    owners = _owners(topology, cables, owner_of)
    names = {rate: f"link{i}" for i, rate in enumerate(dict.fromkeys(rate for _, _, rate in cables))}
    devices, instances, places = _devices(owners, names)
    between = [(a, b, rate) for a, b, rate in cables if owner_of[a] != owner_of[b]]

    def end(endpoint: str) -> dict[str, str]:
        owner = owner_of[endpoint]
        return {"instance": places[owner], "component": owners[owner].places[endpoint]}

    return {
        "name": _writable(topology.name),
        "description": topology.description,
        "devices": devices,
        "links": _links(names, (rate for _, _, rate in between)),
        "instances": instances,
        "edges": [_edge(end(a), end(b), names[rate]) for a, b, rate in between],
    }


def _cables(topology: Topology) -> list[_Cable]:
    """Each pair of joined endpoints once. Parallel links are summed, and the latency is the mean of both directions.

    The mean is exact for routes: a fabric's latency, which its way in carries, is met once on every route through it.
    """
    directed: dict[tuple[str, str], _Rate] = {}
    for link in topology.links:
        bandwidth, latency = directed.get((link.source, link.destination), (0.0, 0.0))
        directed[link.source, link.destination] = bandwidth + link.bandwidth, max(latency, link.latency)
    cables: dict[tuple[str, str], _Rate] = {}
    for (a, b), (bandwidth, latency) in directed.items():
        back = directed.get((b, a), (0.0, 0.0))
        if back[0] != bandwidth:
            _refuse(
                topology, f"has a cable with unlike directions, {a} to {b}", "InfraGraph cannot say so; make them equal"
            )
        if (b, a) not in cables:
            cables[a, b] = bandwidth, (latency + back[1]) / 2
    return [(a, b, rate) for (a, b), rate in cables.items()]


def _owner_names(topology: Topology, cables: Iterable[_Cable]) -> dict[str, str]:
    """The node that each endpoint belongs to, empty for none. In a graph, a switch is where its devices are."""
    devices = {topology.router.endpoint(rank): f"node{topology.node(rank)}" for rank in range(topology.world_size)}
    near: dict[str, list[str]] = {}
    for a, b, _ in cables:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    switches = [name for name in near if name not in devices]
    if topology.fabric is not None:
        return devices | {name: match[1] if (match := _OF_NODE.fullmatch(name)) else "" for name in switches}
    if topology.num_nodes == 1:
        return devices | dict.fromkeys(switches, "node0")
    around = {name: {devices.get(other, "") for other in near[name]} for name in switches}
    return devices | {name: owners.pop() if len(owners) == 1 else "" for name, owners in around.items()}


def _owners(topology: Topology, cables: Iterable[_Cable], owner_of: Mapping[str, str]) -> dict[str, _Owner]:
    owners: dict[str, _Owner] = {}
    for (name, kind), ranks in groupby(range(topology.world_size), key=lambda rank: _run(topology, owner_of, rank)):
        owner = owners.setdefault(name, _Owner())
        earlier = sum(component.partition(" (")[0] == kind for component in owner.components)
        component = f"{kind} ({earlier + 1})" if earlier else kind
        for rank in ranks:
            owner.add(topology.router.endpoint(rank), component, "xpu")
    for endpoint, name in owner_of.items():
        owner = owners.setdefault(name, _Owner())
        if endpoint not in owner.places:
            owner.add(endpoint, _writable(endpoint.rpartition("/")[2] if name else endpoint), "switch")
    for a, b, rate in cables:
        if owner_of[a] == owner_of[b]:
            owners[owner_of[a]].cables.append((a, b, rate))
    return owners


def _run(topology: Topology, owner_of: Mapping[str, str], rank: int) -> tuple[str, str]:
    """What ranks in a row share if they are one component: the node and the kind of device."""
    return owner_of[topology.router.endpoint(rank)], _writable(topology.device(rank).kind)


def _devices(
    owners: Mapping[str, _Owner], names: Mapping[_Rate, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, str]]:
    """One device for all owners that are built alike, instances of them, and each owner's place there, `host0[3]`."""
    shapes: dict[object, int] = {}
    devices: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    places: dict[str, str] = {}
    for shape, run in groupby(owners, key=lambda name: shapes.setdefault(owners[name].shape(), len(shapes))):
        alike = list(run)
        if shape == len(devices):
            devices.append(_device(f"device{shape}", owners[alike[0]], names))
        instance = f"host{len(instances)}"
        places |= {name: f"{instance}[{k}]" for k, name in enumerate(alike)}
        instances.append({"name": instance, "device": f"device{shape}", "count": len(alike)})
    return devices, instances, places


def _device(name: str, owner: _Owner, names: Mapping[_Rate, str]) -> dict[str, Any]:
    edges = [
        _edge({"component": owner.places[a]}, {"component": owner.places[b]}, names[rate])
        for a, b, rate in owner.cables
    ]
    return {
        "name": name,
        "components": [
            {"name": component, "count": count, "choice": choice, choice: {}}
            for component, (choice, count) in owner.components.items()
        ],
        "links": _links(names, (rate for _, _, rate in owner.cables)),
        "edges": edges,
    }


def _links(names: Mapping[_Rate, str], used: Iterable[_Rate]) -> list[dict[str, Any]]:
    return [
        {
            "name": names[rate],
            "physical": {
                "bandwidth": {
                    "choice": "gigabytes_per_second",
                    "gigabytes_per_second": _in(rate[0], parse_bandwidth("1 GB/s")),
                },
                "latency": {"choice": "ns", "ns": _in(rate[1], parse_seconds("1 ns"))},
            },
        }
        for rate in dict.fromkeys(used)
    ]


def _edge(one: Mapping[str, str], other: Mapping[str, str], link: str) -> dict[str, Any]:
    return {"ep1": dict(one), "ep2": dict(other), "scheme": "one2one", "link": link}


def _in(value: float, unit: float) -> float:
    """The value in a unit; in decimals, so that 1 us is 1000 ns and not 1000.0000000000001."""
    return float(Decimal(repr(value)) / Decimal(repr(unit)))


def _writable(name: str) -> str:
    return _UNWRITABLE.sub("-", name)


def _refuse(topology: Topology, message: str, hint: str) -> NoReturn:
    raise InputError([Diagnostic("", topology.name, message, hint)])
