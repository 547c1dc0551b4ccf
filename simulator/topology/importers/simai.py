"""SimAI's topology text, as its ``gen_Topo_Template.py`` writes it: every endpoint is a number, every link a line.

The first line is ``nodes gpus_per_server nvswitches switches links gpu_type``, the second lists the switches' numbers;
then ``source destination bandwidth latency error_rate`` (``0 16 2400Gbps 0.000025ms 0``). GPUs are the first numbers.
"""

from dataclasses import dataclass
from typing import Any

from simulator.inputs.yaml_source import read_text
from simulator.topology.importers.cluster import MAX_CABLES, Cable, Cluster
from simulator.topology.importers.facts import Facts, refuse
from simulator.topology.importers.kinds import choose_kind
from simulator.units import parse_bandwidth, parse_seconds

_HEADER = "nodes, GPUs per server, NVSwitches, switches, links and the GPU type"


@dataclass(frozen=True, slots=True)
class _Line:
    """The words of one line, and where it stands."""

    place: str
    words: list[str]

    def number(self, position: int, below: int) -> int:
        """A word that must be a whole number less than `below`."""
        word = self.words[position]
        if not (word.isascii() and word.isdigit() and len(word) < 10 and int(word) < below):
            refuse(self.place, f'"{word[:20]}" is no whole number below {below:,}')
        return int(word)


def read_simai(path: str, facts: Facts) -> dict[str, Any]:
    """Return a topology file that names every GPU, switch and cable.

    Raises
    ------
    InputError
        The file is no such text, or contradicts its own first line.
    """
    lines = [_Line(f"{path}:{i}:1", line.split()) for i, line in enumerate(read_text(path).splitlines(), 1)]
    lines = [line for line in lines if line.words]
    if len(lines) < 2 or len(lines[0].words) != 6:
        refuse(lines[0].place if lines else path, f"does not begin with six words: {_HEADER}")
    header, listing, links = lines[0], lines[1], lines[2:]
    limit = 20 * MAX_CABLES
    nodes, per_server, nvswitches, others, count = (header.number(i, limit) for i in range(5))
    gpus = nodes - nvswitches - others
    if gpus < 1:
        refuse(
            header.place, f"{nodes} nodes - {nvswitches} NVSwitches - {others} switches = {gpus} GPUs; one is needed"
        )
    if len(links) != count:
        refuse(header.place, f"announces {count} links, and {len(links)} lines follow")
    switches = [listing.number(i, nodes) for i in range(len(listing.words))]
    if sorted(switches) != list(range(gpus, nodes)):
        refuse(listing.place, f"must list the {nodes - gpus} switches, {gpus} to {nodes - 1}, each once")
    model = header.words[5] if header.words[5] != "NONE" else None
    kind, block = choose_kind(facts.device, model, header.place)
    cluster = Cluster(path)
    for i in range(gpus):
        cluster.add_device(f"gpu{i}", kind, f"server{i // (per_server or gpus)}")
    for i in switches:
        cluster.add_switch(_name(i, gpus, nvswitches))
    lossy = [_join(cluster, line, nodes, gpus, nvswitches) for line in links]
    cluster.simplify()
    description = (
        f"Imported from SimAI's topology text: {gpus} {header.words[5]} GPUs, {per_server} a server. Equal switches "
        "with the same neighbours are one switch with trunks."
        + (" Error rates are not modelled." if any(lossy) else "")
    )
    return cluster.document({"description": description, "devices": {kind: block}})


def _name(number: int, gpus: int, nvswitches: int) -> str:
    if number < gpus:
        return f"gpu{number}"
    return f"nvswitch{number}" if number < gpus + nvswitches else f"switch{number}"


def _join(cluster: Cluster, line: _Line, nodes: int, gpus: int, nvswitches: int) -> bool:
    """Add the cable of one line; return whether it loses packets."""
    if len(line.words) != 5:
        refuse(line.place, f"has {len(line.words)} words, not source, destination, bandwidth, latency and error rate")
    one, other = (line.number(i, nodes) for i in (0, 1))
    try:
        bandwidth, latency = parse_bandwidth(line.words[2]), parse_seconds(line.words[3])
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        refuse(line.place, message, hint)
    if one == other or bandwidth <= 0 or latency < 0:
        refuse(line.place, "joins something to itself, or is narrower than nothing, or faster than light")
    source = "As the imported file states it, per direction."
    ends = [_name(i, gpus, nvswitches) for i in (one, other)]
    cluster.join(ends[0], ends[1], Cable(bandwidth, latency, source))
    return line.words[4] not in ("0", "0.0")
