"""InfraGraph (https://infragraph.dev), the open topology format that ASTRA-sim reads too: YAML or JSON.

Its links may lack a bandwidth or a latency. Ports and network cards that only pass traffic on are left out with their
inner links, and whatever still lacks a bandwidth then is asked for.
"""

import re
from math import inf
from typing import Any, NoReturn

from simulator.errors import Problems
from simulator.inputs.validate import validate
from simulator.inputs.yaml_source import Document, read_document
from simulator.topology.importers.cluster import Cable, Cluster
from simulator.topology.importers.facts import Facts, refuse
from simulator.topology.importers.infragraph_expand import Expanded, expand, xpus
from simulator.topology.importers.infragraph_schema import InfrastructureSchema, LinkSchema
from simulator.topology.importers.kinds import choose_kind, shipped_kinds
from simulator.units import parse_bandwidth, parse_seconds

PASSIVE = ("nic", "port", "custom")
"""Components that pass on what comes in; with two links they are a piece of cable."""

_UNWRITABLE = re.compile(r"[^A-Za-z0-9._/+-]+")


def read_infragraph(path: str, facts: Facts) -> dict[str, Any]:
    """Return a topology file that names every XPU, switch and cable.

    Raises
    ------
    InputError
        The file is no InfraGraph, or a link has no bandwidth there and none in `facts`.
    """
    document = read_document(path, "infragraph")
    problems = Problems(document.locate)
    spec = validate(_unwrapped(document), InfrastructureSchema, problems)
    problems.raise_if_any()
    assert spec

    def refuse_at(key: str, message: str) -> NoReturn:
        refuse(document.locate(key), message, key=key)

    expanded = expand(spec, refuse_at)
    kinds, blocks = _kinds(path, expanded, facts)
    cluster = Cluster(path)
    names = _names(path, expanded)
    for name in xpus(expanded):
        part = expanded.parts[name]
        cluster.add_device(names[name], kinds[part.component], _UNWRITABLE.sub("-", part.instance))
    passive = []
    for name, part in expanded.parts.items():
        if part.choice not in ("xpu", "npu", "memory"):
            cluster.add_switch(names[name])
            passive += [names[name]] * (part.choice in PASSIVE)
    cables = _Cables(path, facts)
    # A graph of InfraGraph has at most one edge between two components.
    for edge in {frozenset((edge.one, edge.other)): edge for edge in expanded.edges}.values():
        if {expanded.parts[end].choice for end in (edge.one, edge.other)}.isdisjoint(["memory"]):
            cluster.join(names[edge.one], names[edge.other], cables.of(edge.link))
    cluster.simplify(passive)
    cables.check(cluster)
    description = f"Imported from InfraGraph {_UNWRITABLE.sub('-', spec.name)}: {len(cluster.devices)} XPUs."
    return cluster.document({"description": description, "devices": blocks})


def _unwrapped(document: Document) -> Document:
    """The infrastructure itself, where the file has annotations beside it."""
    inner = document.data.get("infrastructure")
    if not isinstance(inner, dict):
        return document
    start = f"{document.name}.infrastructure"
    document.places |= {
        document.name + key[len(start) :]: place for key, place in document.places.items() if key.startswith(start)
    }
    document.data = inner
    return document


def _kinds(path: str, expanded: Expanded, facts: Facts) -> tuple[dict[str, str], dict[str, Any]]:
    """The device kind of each component that computes, and the blocks of those kinds."""
    kinds: dict[str, str] = {}
    blocks: dict[str, Any] = {}
    for component in dict.fromkeys(expanded.parts[name].component for name in xpus(expanded)):
        named = component.partition(" (")[0]
        model = named if facts.device is None and named in shipped_kinds() else None
        kind, block = choose_kind(facts.device, model, path)
        kinds[component] = kind
        blocks[kind] = block
    if not kinds:
        refuse(path, "has no component of choice xpu", "an instance of a device with an xpu is what computes")
    return kinds, blocks


def _names(path: str, expanded: Expanded) -> dict[str, str]:
    """A name that a topology file accepts, for each part."""
    names = {name: _UNWRITABLE.sub("-", name) for name in expanded.parts}
    if len(set(names.values())) < len(names):
        refuse(path, "has names that differ only in characters that a topology file does not allow")
    return names


class _Cables:
    """The cable that each link class makes; remembers which classes lack a bandwidth."""

    def __init__(self, path: str, facts: Facts) -> None:
        self._path, self._facts = path, facts
        self._unknown: dict[str, str] = {}

    def of(self, link: LinkSchema) -> Cable:
        """The cable for a link."""
        if link.name in self._facts.links:
            bandwidth, latency = self._facts.links[link.name]
            return Cable(bandwidth, latency, f"Link {link.name}: given by --link.")
        physical = link.physical
        bandwidth = _bandwidth(link)
        delay = physical.latency if physical else None
        given = next(((v, u) for u in ("ms", "us", "ns") if (v := getattr(delay, u, None)) is not None), None)
        latency = parse_seconds(f"{given[0]} {given[1]}") if given else 0.0
        source = f"Link {link.name}: as the imported file states it, per direction."
        if given is None:
            source += " It states no latency: counted as none."
        if bandwidth == inf:
            source = self._unknown[link.name] = f"Link {link.name}: no bandwidth known."
        return Cable(bandwidth, latency, source)

    def check(self, cluster: Cluster) -> None:
        """Ask for the bandwidth of every link class that matters and has none."""
        sources = {cable.source for _, _, cable in cluster.cables() if cable.bandwidth == inf}
        missing = [name for name, own in self._unknown.items() if any(each.startswith(own) for each in sources)]
        if missing:
            hint = "write " + " ".join(f"--link '{name}=BANDWIDTH,LATENCY'" for name in missing)
            refuse(self._path, f"gives no bandwidth in bytes or bits per second to {', '.join(missing)}", hint)


def _bandwidth(link: LinkSchema) -> float:
    given = link.physical.bandwidth if link.physical else None
    if given and given.gigabits_per_second is not None:
        return parse_bandwidth(f"{given.gigabits_per_second} Gb/s")
    if given and given.gigabytes_per_second is not None:
        return parse_bandwidth(f"{given.gigabytes_per_second} GB/s")
    return inf
