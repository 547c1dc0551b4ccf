"""Slurm's ``topology.conf`` and ``topology.yaml``: which hosts are under which switch. Nothing else stands there.

What is inside a host is a topology with `node`, given by the user. Formats: the manual pages topology.conf(5) and
topology.yaml(5).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from simulator.errors import Problems
from simulator.inputs.plain_yaml import read_plain
from simulator.inputs.validate import validate
from simulator.inputs.yaml_source import Document, read_text
from simulator.topology.importers.facts import Facts, refuse
from simulator.topology.importers.foreign import ForeignModel
from simulator.topology.importers.hostlist import expand_hostlist
from simulator.topology.importers.slurm_cluster import Switch, build_cluster


class _SwitchSchema(ForeignModel):
    switch: str
    children: str | None = None
    nodes: str | None = None


class _TreeSchema(ForeignModel):
    switches: list[_SwitchSchema]


class _BlockSchema(ForeignModel):
    block: str
    nodes: str


class _BlocksSchema(ForeignModel):
    blocks: list[_BlockSchema]


class _TopologySchema(ForeignModel):
    topology: str
    cluster_default: bool = False
    tree: _TreeSchema | None = None
    block: _BlocksSchema | None = None


class _FileSchema(ForeignModel):
    topologies: list[_TopologySchema]


@dataclass(slots=True)
class _Names:
    """Expands host lists, and says where one is wrong."""

    place: str

    def expand(self, text: str | None) -> list[str]:
        try:
            return expand_hostlist(text) if text else []
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            refuse(self.place, message, hint)


def read_slurm(path: str, facts: Facts) -> dict[str, Any]:
    """Return a topology file: `node` times `nodes` where one switch joins all hosts, else a graph of everything.

    Raises
    ------
    InputError
        The file is neither, or names switches that are not there, or `facts` does not say what a host is.
    """
    text = read_text(path)
    if facts.node is None:
        refuse(path, "Slurm names hosts, not what is in them", "write --node TOPOLOGY, as in --node dgx-h100")
    first = next((line for line in map(str.strip, text.splitlines()) if line and line[0] != "#"), "")
    switches = list(_read_yaml(path, text) if first.startswith(("-", "[")) else _read_conf(path, text))
    return build_cluster(path, switches, facts)


def _read_yaml(path: str, text: str) -> Iterator[Switch]:
    places: dict[str, str] = {}
    data = read_plain(text, "slurm.topologies", lambda line, column: f"{path}:{line}:{column}", places)
    document = Document(name="slurm", path=path, data={"topologies": data}, places=places)
    problems = Problems(document.locate)
    spec = validate(document, _FileSchema, problems)
    problems.raise_if_any()
    assert spec
    candidates = [each for each in spec.topologies if each.cluster_default] or spec.topologies
    if len(spec.topologies) > 1 and len(candidates) > 1 and not candidates[0].cluster_default:
        listed = ", ".join(each.topology for each in candidates)
        refuse(path, f"describes {len(candidates)} topologies: {listed}", "mark one with cluster_default: true")
    chosen = candidates[0] if candidates else None
    key = f"slurm.topologies.{spec.topologies.index(chosen)}" if chosen else "slurm"
    if chosen and chosen.tree:
        for i, entry in enumerate(chosen.tree.switches):
            names = _Names(document.locate(f"{key}.tree.switches.{i}"))
            yield Switch(entry.switch, names.expand(entry.children), names.expand(entry.nodes), names.place)
    elif chosen and chosen.block:
        for i, block in enumerate(chosen.block.blocks):
            names = _Names(document.locate(f"{key}.block.blocks.{i}"))
            yield Switch(block.block, [], names.expand(block.nodes), names.place)
    else:
        refuse(document.locate(key), "is neither tree nor block, and so names no hosts")


def _read_conf(path: str, text: str) -> Iterator[Switch]:
    for number, line in _logical_lines(text):
        place = f"{path}:{number}:1"
        words = line.partition("#")[0].split()
        pairs = {key.lower(): value for key, _, value in (word.partition("=") for word in words)}
        names = _Names(place)
        if "switchname" in pairs:
            below, hosts = names.expand(pairs.get("switches")), names.expand(pairs.get("nodes"))
            yield Switch(pairs["switchname"], below, hosts, place)
        elif "blockname" in pairs:
            yield Switch(pairs["blockname"], [], names.expand(pairs.get("nodes")), place)
        elif words and "blocksizes" not in pairs:
            hint = "every line begins with SwitchName=, BlockName= or BlockSizes="
            refuse(place, f'"{words[0][:40]}" is not read', hint)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines, joined where one ends with a backslash, each with the number of its first."""
    first, joined = 1, ""
    for number, line in enumerate(text.splitlines(), 1):
        joined += line.removesuffix("\\") + " "
        if not line.endswith("\\"):
            yield first, joined
            first, joined = number + 1, ""
    if joined:
        yield first, joined
