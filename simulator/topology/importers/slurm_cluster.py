"""Slurm's tree of switches and the inside of one host -> a topology file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.errors import Problems
from simulator.inputs.validate import validate
from simulator.inputs.yaml_source import Document, read_document
from simulator.topology.importers.cluster import MAX_CABLES, Cable, Cluster
from simulator.topology.importers.defaults import SWITCH_LATENCY, SWITCH_REASON
from simulator.topology.importers.facts import Facts, refuse
from simulator.topology.importers.kinds import topology_file
from simulator.topology.schema import NodeSchema, TopologySchema
from simulator.topology.wiring import Wiring
from simulator.units import write_seconds

MAX_LEVELS = 64
"""Switches above each other; real trees have three or four."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch (or block) with the switches and hosts right below it, and where the file names it."""

    name: str
    switches: list[str]
    hosts: list[str]
    place: str


def build_cluster(path: str, switches: Sequence[Switch], facts: Facts) -> dict[str, Any]:
    """Return a topology file; raises InputError for a tree that is none and for hosts that do not fit into a file."""
    document, node = _read_node(facts)
    tree = _Tree(path, switches)
    hosts = list(tree.leaf)
    about = f"Imported from Slurm: {len(hosts)} hosts under {len(switches)} switches, each host as in {document.path}."
    head: dict[str, Any] = {"description": about, "devices": document.data["devices"]}
    if len(tree.switches) == 1:
        default = {"kind": "switch", "latency": write_seconds(SWITCH_LATENCY), "source": SWITCH_REASON}
        given = document.data.get("fabric")
        fabric = given if isinstance(given, dict) and given.get("kind") == "switch" else default
        return {**head, "node": document.data["node"], "nodes": len(hosts), "fabric": fabric}
    head["description"] += f" Oversubscription {facts.oversubscription or 1:g}:1 at every switch."
    return _build_graph(path, tree, node, facts).document(head)


def _read_node(facts: Facts) -> tuple[Document, NodeSchema]:
    """The topology whose `node` every host is."""
    assert facts.node is not None
    document = read_document(topology_file(facts.node), "topology")
    document.path = facts.node
    problems = Problems(document.locate)
    spec = validate(document, TopologySchema, problems)
    problems.raise_if_any()
    if spec is None or spec.node is None or not spec.node.uplinks:
        hint = "name a topology with node: and uplinks:, as in --node dgx-h100"
        refuse(f"--node {facts.node}", "has no node with network cards (uplinks)", hint)
    return document, spec.node


class _Tree:
    """The switches by name, the leaf switch of each host, and the switches above each."""

    def __init__(self, path: str, switches: Sequence[Switch]) -> None:
        self.switches = {switch.name: switch for switch in switches}
        self.leaf: dict[str, str] = {}
        self.above: dict[str, list[str]] = {name: [] for name in self.switches}
        for switch in switches:
            if self.switches[switch.name] is not switch:
                refuse(switch.place, f"switch {switch.name} is there twice")
            for host in switch.hosts:
                if self.leaf.setdefault(host, switch.name) != switch.name:
                    refuse(switch.place, f"host {host} is under {self.leaf[host]} already")
            for below in switch.switches:
                if below not in self.switches:
                    refuse(switch.place, f"switch {below} is not described", f"add SwitchName={below}, or remove it")
                self.above[below].append(switch.name)
        if not self.leaf:
            refuse(path, "names no hosts")
        if len(switches) > 1 and not any(self.above.values()):
            self._add_root()

    def _add_root(self) -> None:
        """Join switches that have nothing above them, as the blocks of topology/block, by one ideal switch."""
        root = "-".join(["root", *(["of", *self.switches] if "root" in self.switches else [])])[:100]
        self.above = {name: [root] for name in self.switches} | {root: []}
        self.switches[root] = Switch(root, list(self.switches), [], "")


def _build_graph(path: str, tree: _Tree, node: NodeSchema, facts: Facts) -> Cluster:
    names = [f"device{i}" for i in range(node.count)]
    ends = {"device": names, **{name: [name] for name in [*names, *node.switches]}}
    inside, cards = _cables(node, ends)
    count = len(tree.leaf) * (len(inside) + len(cards))
    if count > MAX_CABLES:
        product = f"{len(tree.leaf):,} hosts x {len(inside) + len(cards)} cables = {count:,}"
        refuse(path, f"{product}; a topology file may name {MAX_CABLES:,}", "describe the fabric with a template")
    cluster = Cluster(path)
    for host in tree.leaf:
        for name in names:
            cluster.add_device(f"{host}/{name}", node.device, host)
    for switch in tree.switches:
        cluster.add_switch(switch)
    for host, leaf in tree.leaf.items():
        for name in node.switches:
            cluster.add_switch(f"{host}/{name}")
        for one, other, cable in inside:
            cluster.join(f"{host}/{one}", f"{host}/{other}", cable)
        for origin, cable in cards:
            cluster.join(f"{host}/{origin}", leaf, cable)
    ratio = facts.oversubscription or 1.0
    entering = _Entering(tree, sum(cable.bandwidth for _, cable in cards), ratio)
    source = f"Assumption: {ratio:g} times as much enters a switch from below as leaves it upwards. {SWITCH_REASON}"
    for name, above in tree.above.items():
        for upper in above:
            cluster.join(name, upper, Cable(entering.upwards(name), SWITCH_LATENCY, source))
    cluster.simplify()
    return cluster


def _cables(
    node: NodeSchema, ends: Mapping[str, Sequence[str]]
) -> tuple[list[tuple[str, str, Cable]], list[tuple[str, Cable]]]:
    """The cables inside one host, and its network cards with where they sit."""
    problems = Problems()
    inside = []
    for i, link in enumerate(node.links):
        wiring = Wiring(ends)
        wiring.add(f"topology.node.links.{i}", link, problems)
        there = wiring.links()
        cable = Cable(link.bandwidth, link.latency, link.source)
        inside += [(each.source, each.destination, cable) for each in there[: len(there) // 2]]
    problems.raise_if_any()
    cards = [(origin, card) for card in node.uplinks for origin in ends.get(card.origin, ())]
    return inside, [(origin, Cable(card.bandwidth, card.latency, card.source)) for origin, card in cards]


class _Entering:
    """Bytes/s that can enter a switch from below: the network cards of its hosts and the cables of its switches."""

    def __init__(self, tree: _Tree, per_host: float, oversubscription: float) -> None:
        self._tree, self._per_host, self._ratio = tree, per_host, oversubscription
        self._known: dict[str, float | None] = {}

    def upwards(self, name: str, depth: int = 0) -> float:
        """Of each cable from a switch to one above it."""
        return self._bandwidth(name, depth) / self._ratio / len(self._tree.above[name])

    def _bandwidth(self, name: str, depth: int) -> float:
        switch = self._tree.switches[name]
        if name not in self._known and depth < MAX_LEVELS:
            self._known[name] = None
            below = sum(self.upwards(each, depth + 1) for each in switch.switches)
            self._known[name] = below + len(switch.hosts) * self._per_host
        found = self._known.get(name)
        if found is None:
            refuse(switch.place, f"switch {name} is below itself, or below more than {MAX_LEVELS} others")
        return found
