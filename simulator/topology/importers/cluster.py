"""A cluster as other formats list it: endpoints and cables; made smaller without changing what flows where."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from simulator.topology.importers.facts import refuse
from simulator.units import write_bandwidth, write_seconds

MAX_CABLES = 10_000
"""More would exceed what a topology file may hold (`plain_yaml.MAX_NODES` keys and values; a cable is seven)."""

TRUNK = " Parallel cables are one trunk with the sum of their bandwidth."


@dataclass(frozen=True, slots=True)
class Cable:
    """A full-duplex cable: bytes/s per direction (infinite where not known yet), seconds one way, and the source."""

    bandwidth: float
    latency: float
    source: str


class Cluster:
    """Devices, switches and the cables between them.

    Parameters
    ----------
    location : str
        The imported file, for errors.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self.devices: dict[str, str] = {}
        self._nodes: dict[str, list[str]] = {}
        self.switches: dict[str, None] = {}
        self._cables: dict[str, dict[str, Cable]] = {}
        self._order: dict[tuple[str, str], None] = {}

    def add_device(self, name: str, kind: str, node: str = "") -> None:
        """Add a device and say which host holds it; ranks follow the order of the calls, host after host."""
        self._add(name)
        self.devices[name] = kind
        self._nodes.setdefault(node, []).append(name)

    def add_switch(self, name: str) -> None:
        """Add something that forwards."""
        self._add(name)
        self.switches[name] = None

    def _add(self, name: str) -> None:
        if name in self._cables:
            refuse(self._location, f"names {name} twice")
        self._cables[name] = {}

    def join(self, one: str, other: str, cable: Cable) -> None:
        """Add a cable; a second one between the same two adds its bandwidth to the first."""
        earlier = self._cables[one].get(other)
        if earlier is not None:
            cable = _trunk(earlier, cable)
        else:
            self._order[one, other] = None
        self._cables[one][other] = self._cables[other][one] = cable

    def cables(self) -> list[tuple[str, str, Cable]]:
        """Each cable once, the widest first: among routes with equally few cables the first one is taken."""
        return sorted(((a, b, self._cables[a][b]) for a, b in self._order), key=lambda each: -each[2].bandwidth)

    def simplify(self, passive: Collection[str] = ()) -> None:
        """Leave out what routes do not need, until nothing is left to leave out.

        A switch with at most one cable carries nothing. A `passive` part (a port, a network card) with two cables is
        one cable: the narrower bandwidth, both latencies. Switches with equal cables to the same neighbours are one
        switch with trunks of summed bandwidth: an ideal spread of the traffic over them.
        """
        before = -1
        while before != (before := len(self.switches)):
            for name in list(self.switches):
                if len(self._cables[name]) < 2:
                    self._remove(name)
                elif name in passive:
                    self._splice(name)
            self._merge_equal_switches()

    def _splice(self, name: str) -> None:
        if len(self._cables[name]) == 2:
            (one, first), (other, second) = self._cables[name].items()
            self._remove(name)
            narrow = first if first.bandwidth <= second.bandwidth else second
            self.join(one, other, replace(narrow, latency=first.latency + second.latency))

    def _merge_equal_switches(self) -> None:
        kept: dict[frozenset[tuple[str, float, float]], str] = {}
        for name in list(self.switches):
            cables = frozenset((other, each.bandwidth, each.latency) for other, each in self._cables[name].items())
            first = kept.setdefault(cables, name)
            if first != name:
                for other, cable in list(self._cables[name].items()):
                    self.join(first, other, cable)
                self._remove(name)

    def _remove(self, name: str) -> None:
        for other in self._cables.pop(name):
            del self._cables[other][name]
            self._order.pop((name, other), None)
            self._order.pop((other, name), None)
        del self.switches[name]

    def document(self, head: dict[str, Any], *, transit: bool = False) -> dict[str, Any]:
        """Return a topology file that names everything: `head`, then `graph`."""
        cables = self.cables()
        if len(cables) > MAX_CABLES:
            hint = "describe one node with node: and repeat it"
            refuse(self._location, f"has {len(cables):,} cables; a topology file may name {MAX_CABLES:,}", hint)
        graph: dict[str, Any] = {"devices": dict(self.devices)}
        graph |= {"nodes": self._nodes} if len(self._nodes) > 1 else {}
        graph |= {"switches": list(self.switches)}
        graph |= {"transit": True} if transit else {}
        graph["links"] = [link([a, b], cable) for a, b, cable in cables]
        return {**head, "graph": graph}

    def node(self, uplinks: Iterable[tuple[str, Cable]] = ()) -> dict[str, Any]:
        """Return the `node` of a topology file; the devices must be called device0, device1, ... and be of one kind."""
        links: list[Any] = []
        done: set[str] = set()
        for a, b, cable in self.cables():
            shared = a in self.devices and all(self._cables[device].get(b) == cable for device in self.devices)
            if not shared:
                links.append(link([a, b], cable))
            elif b not in done:
                links.append(link(["device", b], cable))
                done.add(b)
        node: dict[str, Any] = {"device": next(iter(self.devices.values())), "count": len(self.devices)}
        node |= {"switches": list(self.switches), "links": links}
        cards: list[Any] = [{"from": origin, **_values(cable)} for origin, cable in uplinks]
        return node | ({"uplinks": cards} if cards else {})


def link(between: Sequence[str], cable: Cable) -> dict[str, Any]:
    """Return an entry of `links`."""
    return {"between": list(between), **_values(cable)}


def _values(cable: Cable) -> dict[str, Any]:
    assert cable.bandwidth < inf
    bandwidth, latency = write_bandwidth(cable.bandwidth), write_seconds(cable.latency)
    return {"bandwidth": bandwidth, "latency": latency, "source": cable.source}


def _trunk(one: Cable, other: Cable) -> Cable:
    source = one.source if one.source.endswith(TRUNK) else one.source + TRUNK
    return Cable(one.bandwidth + other.bandwidth, max(one.latency, other.latency), source)
