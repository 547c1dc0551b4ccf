"""What a lab is made of: namespaces, cables between them, and who passes packets on to whom. Nothing is built here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.errors import Diagnostic, InputError
from simulator.topology import Topology

NETWORK = "198.18"
"""First half of all addresses: reserved for benchmarks of networks (RFC 2544, C.2.2), so used by nobody else."""

MAX_SPACES = 250
"""Addresses that fit into the last quarter of an address; far more namespaces than one machine has cores for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A namespace: a host with its ranks, or a switch without.

    Parameters
    ----------
    name
        Of the host, or as the topology calls the switch.
    address
        Its only IPv4 address, on the first of its interfaces.
    ranks
        Those that run there.
    """

    name: str
    address: str
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One end of a cable.

    Parameters
    ----------
    space
        Position of the namespace that it is in.
    interface
        Its name there, ``eth0``.
    rate
        Bytes/s of frames that it sends.
    latency
        Seconds that a frame takes to the other end.
    """

    space: int
    interface: str
    rate: float
    latency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """What a namespace does with packets to a host: it gives them to a neighbour.

    Parameters
    ----------
    space, to, via
        Positions of the namespace, of the host and of the neighbour.
    interface
        That leads to the neighbour.
    """

    space: int
    to: int
    via: int
    interface: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """A lab on paper.

    Parameters
    ----------
    spaces
        Hosts in the order of their ranks, then switches.
    cables
        Pairs of ports.
    hops
        The topology's routes, host by host.
    """

    spaces: tuple[Space, ...]
    cables: tuple[tuple[Port, Port], ...]
    hops: tuple[Hop, ...]

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return sum(len(space.ranks) for space in self.spaces)

    def host(self, rank: int) -> Space:
        """Return where a rank runs."""
        return next(space for space in self.spaces if rank in space.ranks)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Blueprint:
        """Return the blueprint of which ``dataclasses.asdict`` made plain values."""
        return cls(
            spaces=tuple(Space(**each | {"ranks": tuple(each["ranks"])}) for each in data["spaces"]),
            cables=tuple((Port(**one), Port(**other)) for one, other in data["cables"]),
            hops=tuple(Hop(**each) for each in data["hops"]),
        )


class Places:
    """Which namespace each endpoint of a topology belongs to.

    Devices and switches of a node are in its host; every other switch has a namespace of its own.
    """

    def __init__(self, topology: Topology) -> None:
        self.spaces: list[Space] = [
            Space(name=f"host{index}", address=_address(index)) for index in range(topology.num_nodes)
        ]
        self._of: dict[str, int] = {}
        self._nodes: dict[str, int] = {}
        members: list[list[int]] = [[] for _ in self.spaces]
        for rank in range(topology.world_size):
            endpoint, node = topology.router.endpoint(rank), topology.node(rank)
            members[node].append(rank)
            self._of[endpoint] = node
            prefix, slash, _ = endpoint.rpartition("/")
            if slash:
                self._nodes[prefix] = node
        self.spaces = [
            Space(name=space.name, address=space.address, ranks=tuple(ranks))
            for space, ranks in zip(self.spaces, members, strict=True)
        ]

    def of(self, endpoint: str) -> int:
        """Return the position of an endpoint's namespace; a switch that is asked for first gets one."""
        if endpoint not in self._of:
            node = self._nodes.get(endpoint.rpartition("/")[0])
            if node is None:
                node = len(self.spaces)
                self.spaces.append(Space(name=endpoint.replace("/", "."), address=_address(node)))
            self._of[endpoint] = node
        return self._of[endpoint]


def draw(topology: Topology) -> Blueprint:
    """Return the lab of a topology.

    Raises
    ------
    InputError
        It has one host, or too many, or routes that packets cannot take.
    """
    if not 1 < topology.num_nodes < MAX_SPACES:
        count = topology.num_nodes
        hint = "each node is a host; write nodes: 2 and a fabric, or nodes under graph" if count < 2 else "take fewer"
        raise _refusal("topology.nodes", f"{topology.name} has {count}, and a netlab joins 2 to {MAX_SPACES - 1}", hint)
    places = Places(topology)
    ends = [(places.of(link.source), places.of(link.destination)) for link in topology.links]
    if len(places.spaces) > MAX_SPACES:
        raise _refusal("topology", f"{len(places.spaces)} hosts and switches, more than {MAX_SPACES}", "take fewer")
    cables, interfaces = _cables(topology, ends)
    hops: dict[tuple[int, int], int] = {}
    for (space, host), link in _next_links(topology, ends):
        known = hops.setdefault((space, host), link)
        if known != link:
            raise _refusal(
                "topology",
                f"packets from {places.spaces[space].name} to {places.spaces[host].name} would leave by "
                f"{topology.links[known].name} or {topology.links[link].name}, depending on the rank",
                "a host of a netlab forwards by destination alone: give it one network card, and trunks ecmp: ideal",
            )
    return Blueprint(
        spaces=tuple(places.spaces),
        cables=tuple(cables),
        hops=tuple(
            Hop(space=space, to=host, via=ends[link][1], interface=interfaces[link])
            for (space, host), link in sorted(hops.items())
        ),
    )


def _cables(topology: Topology, ends: list[tuple[int, int]]) -> tuple[list[tuple[Port, Port]], dict[int, str]]:
    """Return a cable for each two opposite links between namespaces, and the interface that each link leaves by."""
    waiting: dict[tuple[int, int], list[int]] = {}
    counts: dict[int, int] = {}
    interfaces: dict[int, str] = {}
    cables = []
    for index, (one, other) in enumerate(ends):
        if one == other:
            continue
        if not waiting.get((other, one)):
            waiting.setdefault((one, other), []).append(index)
            continue
        back = waiting[other, one].pop(0)
        for link, space in ((back, other), (index, one)):
            interfaces[link] = f"eth{counts.get(space, 0)}"
            counts[space] = counts.get(space, 0) + 1
        cables.append((_port(topology, back, other, interfaces), _port(topology, index, one, interfaces)))
    return cables, interfaces


def _port(topology: Topology, link: int, space: int, interfaces: Mapping[int, str]) -> Port:
    found = topology.links[link]
    return Port(space=space, interface=interfaces[link], rate=found.bandwidth, latency=found.latency)


def _next_links(topology: Topology, ends: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield (namespace, host) and the link by which the packets of some rank go from one on to the other."""
    for source in range(topology.world_size):
        for destination in range(topology.world_size):
            host = topology.node(destination)
            crossed = [link for link in topology.route(source, destination).links if ends[link][0] != ends[link][1]]
            if crossed and host == topology.node(source):
                raise _refusal(
                    "topology",
                    f"ranks {source} and {destination} share a host, and their route leaves it by "
                    f"{topology.links[crossed[0]].name}",
                    "processes of one host talk inside it: join its devices by a switch of the node",
                )
            for link in crossed:
                yield (ends[link][0], host), link


def _address(index: int) -> str:
    return f"{NETWORK}.0.{index + 1}"


def _refusal(key: str, message: str, hint: str) -> InputError:
    return InputError([Diagnostic("", key, message, hint)])
