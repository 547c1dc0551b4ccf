"""One kind of node, ready to be repeated: its devices, its links, and the way to each network card."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from simulator.errors import Problems, quote
from simulator.topology.device import Device, Host
from simulator.topology.host_share import share_host
from simulator.topology.link import FABRIC, Link
from simulator.topology.routes import Paths, unreached
from simulator.topology.schema import NodeSchema
from simulator.topology.wiring import Wiring, directed, listed, suggest

MAX_DEVICES_PER_NODE = 1024

Way = tuple[int, ...]
"""Links in crossing order, counted within the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTemplate:
    """A node without its index; names have no prefix, links are counted from 0.

    Parameters
    ----------
    device : Device
        What each of its ranks runs on.
    host : Host
        What they share, with index 0.
    names : tuple[str, ...]
        Its devices in rank order.
    paths : Paths
        Ways between its endpoints.
    inside, uplinks : tuple[Link, ...]
        Links within the node, and those from its network cards to the fabric. The ids of the uplinks follow those of
        the links within, and the downlinks, in the order of the uplinks, follow them.
    homes : tuple[int, ...]
        For each device its network card; empty without cards.
    """

    device: Device
    host: Host
    names: tuple[str, ...]
    paths: Paths
    inside: tuple[Link, ...]
    uplinks: tuple[Link, ...]
    homes: tuple[int, ...]

    @property
    def num_links(self) -> int:
        """Links of the node, those from and to the fabric included."""
        return len(self.inside) + 2 * len(self.uplinks)

    def within(self, src: int, dst: int) -> Way | None:
        """The way from one device to another without the fabric; None where there is none."""
        return self.paths.find(self.names[src], self.names[dst])

    def leave(self, src: int, card: int) -> Way:
        """The way from a device over a network card to the fabric."""
        way = self.paths.find(self.names[src], self.uplinks[card].source)
        return (*(way or ()), len(self.inside) + card)

    def enter(self, card: int, dst: int) -> Way:
        """The way from the fabric over a network card to a device."""
        way = self.paths.find(self.uplinks[card].source, self.names[dst])
        return (len(self.inside) + len(self.uplinks) + card, *(way or ()))


def build_node(
    key: str, spec: NodeSchema, devices: Mapping[str, Device], needs_cards: bool, at: str, problems: Problems
) -> NodeTemplate | None:
    """Expand a node; None when a problem was found, which is then in `problems`.

    Parameters
    ----------
    key : str
        Where the node stands, `topology.node`.
    spec : NodeSchema
        The node.
    devices : Mapping[str, Device]
        Kinds by name.
    needs_cards : bool
        Whether devices must reach the fabric by network cards.
    at : str
        Where cables of a direct fabric plug in; empty for other fabrics.
    problems : Problems
        Gets everything that is wrong.
    """
    names = [f"device{i}" for i in range(min(spec.count, MAX_DEVICES_PER_NODE))]
    ends = {"device": names, **{name: [name] for name in names}, **{name: [name] for name in spec.switches}}
    checks = [
        _check_count(key, spec, problems),
        _check_kind(key, spec, devices, problems),
        _check_switches(key, spec.switches, problems),
        _check_at(key, spec, at, problems),
    ]
    wiring = Wiring(ends)
    checks += [wiring.add(f"{key}.links.{i}", cable, problems) for i, cable in enumerate(spec.links)]
    checks += [_check_uplink(f"{key}.uplinks.{i}", each.origin, ends, problems) for i, each in enumerate(spec.uplinks)]
    if not all(checks):
        return None
    inside = wiring.links()
    uplinks = _uplinks(spec, ends) if needs_cards else []
    paths = Paths(inside, closed=set(names))
    homes = [_home(i, name, paths, uplinks, set(names)) for i, name in enumerate(names)]
    reached = [home is not None for home in homes]
    if at:
        reached = [paths.find(name, at) is not None for name in names]
    if not _check_reachable(key, names, inside, reached, at, problems):
        return None
    return NodeTemplate(
        device=share_host(devices[spec.device], spec.host, spec.count),
        host=Host(index=0, cores=spec.host.cores, memory=spec.host.memory) if spec.host else Host(index=0),
        names=tuple(names),
        paths=paths,
        inside=tuple(inside),
        uplinks=tuple(uplinks),
        homes=tuple(home for home in homes if home is not None),
    )


def _check_count(key: str, spec: NodeSchema, problems: Problems) -> bool:
    if spec.count > MAX_DEVICES_PER_NODE:
        problems.add(f"{key}.count", f"{spec.count} is more than the {MAX_DEVICES_PER_NODE} a node may have")
        return False
    return True


def _check_kind(key: str, spec: NodeSchema, devices: Mapping[str, Device], problems: Problems) -> bool:
    if spec.device not in devices:
        problems.add(f"{key}.device", f"{quote(spec.device)} is not under devices", suggest(spec.device, devices))
        return False
    return True


def _check_switches(key: str, switches: Sequence[str], problems: Problems) -> bool:
    right = True
    for i, name in enumerate(switches):
        if re.fullmatch(rf"device\d*|{FABRIC}", name):
            problems.add(
                f"{key}.switches.{i}", f"{quote(name)} already means something in a node", "choose another name"
            )
        elif name in switches[:i]:
            problems.add(f"{key}.switches.{i}", f"{quote(name)} is there twice")
        else:
            continue
        right = False
    return right


def _check_at(key: str, spec: NodeSchema, at: str, problems: Problems) -> bool:
    """Cables of a direct fabric end at a switch, or at the only device: devices forward nothing for each other."""
    if not at:
        return True
    if spec.uplinks:
        problems.add(
            f"{key}.uplinks", "network cards plug into switches, and this fabric has none", "remove them, or see at"
        )
        return False
    if at in spec.switches or (at == "device0" and spec.count == 1):
        return True
    if at == "device0":
        message = f"is missing: of {spec.count} devices none forwards the messages of the others"
        problems.add("topology.fabric.at", message, f"name a switch of the node{_examples(spec)}")
    else:
        known = dict.fromkeys([*spec.switches, *(["device0"] if spec.count == 1 else [])])
        hint = suggest(at, known) if known else "write switches: [hub] and links: [{between: [device, hub], ...}]"
        problems.add("topology.fabric.at", f"{quote(at)} is no switch of {key.removeprefix('topology.')}", hint)
    return False


def _examples(spec: NodeSchema) -> str:
    return f": {listed(spec.switches)}" if spec.switches else ", which needs one"


def _check_uplink(key: str, origin: str, ends: Mapping[str, Sequence[str]], problems: Problems) -> bool:
    if origin not in ends:
        problems.add(f"{key}.from", f"{quote(origin)} is no device or switch of the node", suggest(origin, ends))
        return False
    return True


def _uplinks(spec: NodeSchema, ends: Mapping[str, Sequence[str]]) -> list[Link]:
    """One link to the fabric for each network card; several at one place get numbered names."""
    links: list[Link] = []
    for uplink in spec.uplinks:
        for origin in ends[uplink.origin]:
            link = directed(origin, FABRIC, uplink.bandwidth, uplink.latency)
            earlier = sum(other.source == origin for other in links)
            links.append(replace(link, name=f"{link.name}#{earlier}") if earlier else link)
    return links


def _home(index: int, name: str, paths: Paths, uplinks: Sequence[Link], devices: set[str]) -> int | None:
    """The device's nearest network card; None where there is none within reach.

    Devices that find several cards equally near take turns. A card on another device is out of reach, because devices
    forward nothing.
    """
    own = [card for card, uplink in enumerate(uplinks) if uplink.source == name]
    others = [card for card, uplink in enumerate(uplinks) if uplink.source not in devices]
    ways = {card: paths.find(name, uplinks[card].source) for card in own or others}
    lengths = {card: len(way) for card, way in ways.items() if way is not None}
    nearest = [card for card, length in lengths.items() if length == min(lengths.values())]
    return nearest[index % len(nearest)] if nearest else None


def _check_reachable(
    key: str, names: Sequence[str], inside: Sequence[Link], reached: Sequence[bool], at: str, problems: Problems
) -> bool:
    """Each device reaches each other, inside the node or over the fabric."""
    lonely = [name for name, way in zip(names, reached, strict=True) if not way]
    if not lonely:
        return True
    if len(lonely) < len(names) or at:
        part = "links" if at else "uplinks"
        problems.add(f"{key}.{part}", f"{listed(lonely)} cannot reach {at or 'the fabric'}")
        return False
    gap = unreached(names, inside, closed=set(names))
    if gap is not None:
        hint = "join both to one switch; devices forward nothing for others"
        problems.add(f"{key}.links", f"no route from {gap[0]} to {listed(gap[1])}", hint)
    return gap is None
