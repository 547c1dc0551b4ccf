"""What is broken in a cluster: links with less bandwidth, devices that are slow; by name or by pattern."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import translate
from typing import NamedTuple

from simulator.errors import Problems, quote
from simulator.topology.schema import DegradeSchema, SlowSchema
from simulator.topology.topology import Topology
from simulator.topology.wiring import listed

MAX_COMPARED = 1000
"""Names among which a misspelt one is looked for."""

_NODE = re.compile(r"(?:^|->)node(\d{1,7})/")


def damaged(
    topology: Topology, degrade: Sequence[DegradeSchema], slow: Sequence[SlowSchema], problems: Problems
) -> Topology | None:
    """The cluster with its slow links and devices; None when a name means nothing, which is then in `problems`.

    Entries that mean the same link or device multiply. Routes stay as they are.
    """
    if not degrade and not slow:
        return topology
    factors: dict[int, float] = {}
    speeds: dict[int, float] = {}
    right = True
    for i, link in enumerate(degrade):
        candidates = topology.router.links_near(_node(link.link))
        found = _named(link.link, candidates, topology.links.name)
        right &= _check_found(f"topology.degrade.{i}.link", link.link, found, problems)
        factors.update({k: factors.get(k, 1.0) * link.bandwidth for k in found.ids})
    for i, device in enumerate(slow):
        found = _named(device.device, _ranks_near(topology, _node(device.device)), topology.router.endpoint)
        right &= _check_found(f"topology.slow.{i}.device", device.device, found, problems)
        speeds.update({k: speeds.get(k, 1.0) * device.speed for k in found.ids})
    if not right:
        return None
    devices = list(topology.devices)
    for rank, speed in speeds.items():
        devices[rank] = replace(devices[rank], speed=devices[rank].speed * speed)
    links = topology.links.degraded(factors) if factors else topology.links
    return replace(topology, devices=tuple(devices), links=links)


def _node(pattern: str) -> int | None:
    """The node that a name mentions; it spares a search through the whole cluster."""
    found = _NODE.search(pattern)
    return int(found[1]) if found else None


def _ranks_near(topology: Topology, node: int | None) -> range:
    if node is None:
        return range(topology.world_size)
    return topology.layout.ranks(node) if node < topology.num_nodes else range(0)


class _Found(NamedTuple):
    """What a pattern fits, and the first of the names among which it was looked for."""

    ids: list[int]
    known: list[str]


def _named(pattern: str, candidates: Iterable[int], name: Callable[[int], str]) -> _Found:
    tried = list(candidates)
    fits = re.compile(translate(pattern)).match
    return _Found([k for k in tried if fits(name(k))], [name(k) for k in tried[:MAX_COMPARED]])


def _check_found(key: str, pattern: str, found: _Found, problems: Problems) -> bool:
    """A pattern that fits nothing is a mistake."""
    if not found.ids:
        close = get_close_matches(pattern, found.known, n=1)
        known = f"known: {listed(found.known)}" if found.known else "no node has that number"
        problems.add(key, f"{quote(pattern)} names nothing here", f"did you mean {close[0]}?" if close else known)
    return bool(found.ids)
