"""Hardware of a row -> a topology: a shipped node with the row's devices, repeated, and the row's network."""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any

from simulator.inputs.presets import preset_names, preset_path
from simulator.inputs.yaml_source import read_document
from simulator.published.chips import Chip, chip_of, device_for
from simulator.published.draft import Draft
from simulator.published.network import node_bandwidth
from simulator.published.row import Row
from simulator.units import parse_bandwidth, write_bandwidth

NODES = {
    "GB300": ("gb300-nvl72", "gb200-nvl72"),
    "GB200": ("gb200-nvl72",),
    "B300": ("dgx-b300", "dgx-b200"),
    "B200": ("dgx-b200",),
    "H200": ("dgx-h200",),
    "H100": ("dgx-h100",),
    "H800": ("hgx-h800",),
    "A100": ("dgx-a100",),
    "V100": ("dgx-1v",),
    "MI300X": ("mi300x",),
    "L40S": ("l40s-box", "pcie-box"),
}
"""Chip, as a module -> topologies whose node it sits in, the first that is shipped."""

CARDS = ("pcie-box",)
"""Topologies whose node holds cards."""

ONLY_CARDS = re.compile(r"P\d+|T4|L4|A10G?|A[346]0(00)?|RTX\d+")
"""Chips that are sold as cards alone, and have no node of their own."""

_ONE_DEVICE = re.compile(r"device(\d+)")


def put_machine(topology: Draft, row: Row, gpus: int) -> None:
    """Describe the machine; what is not shipped is a problem of the row."""
    text = row.text("hardware")
    chip = chip_of(text, row.text("intra_node_link"))
    kind = device_for(chip) if chip else None
    card = chip is not None and (chip.form == "pcie" or ONLY_CARDS.fullmatch(chip.name))
    names = CARDS if card else NODES.get(chip.name, ()) if chip else ()
    preset = next((name for name in names if name in preset_names("topologies")), None)
    if chip is None or kind is None:
        row.problems.add("hardware", f'no device "{text}" is in topologies/devices')
    elif preset is None:
        row.problems.add("hardware", f'no shipped topology has a node for "{text}"')
    else:
        _fill(topology, row, gpus, chip, kind, preset)


def _fill(topology: Draft, row: Row, gpus: int, chip: Chip, kind: str, preset: str) -> None:
    data = copy.deepcopy(_shipped(preset))
    node = data["node"]
    width = max(row.count("gpus_per_node") or node["count"], chip.domain)
    nodes, count = _split(gpus, width)
    if not _resize(node, count):
        row.problems.add("gpus_per_node", f"{count} devices are more than the node of {preset} has places for")
        return
    node["device"], data["nodes"] = kind, nodes
    data["devices"] = {kind: {"from": kind}}
    data["name"] = f"{preset}-{gpus}"
    data["description"] = f"{gpus} x {row.text('hardware')}, made from the shipped {preset}."
    topology.data = data
    topology.remarks += [
        f"device: {kind} of topologies/devices, for {row.text('hardware')!r}",
        f"node and fabric: {preset}",
        f"nodes: {nodes} of {count} devices ({gpus} GPUs, at most {width} in a node)",
    ]
    if nodes > 1:
        topology.remarks.append(_put_network(node, row.text("inter_node_net")))


def _split(gpus: int, width: int) -> tuple[int, int]:
    """Return the fewest equal nodes of at most ``width`` devices, and the devices of each."""
    nodes = next(number for number in range(-(-gpus // width), gpus + 1) if gpus % number == 0)
    return nodes, gpus // nodes


def _resize(node: dict[str, Any], count: int) -> bool:
    """Give a node another number of devices; False where its links name devices one by one, and too few."""

    def stays(*ends: str) -> bool:
        return all(int(found[1]) < count for end in ends if (found := _ONE_DEVICE.fullmatch(end)))

    named = any(_ONE_DEVICE.fullmatch(end) for link in node.get("links", []) for end in link["between"])
    if named and count > node["count"]:
        return False
    node["links"] = [link for link in node.get("links", []) if stays(*link["between"])]
    node["uplinks"] = [link for link in node.get("uplinks", []) if stays(link["from"])]
    node["count"] = count
    return True


def _put_network(node: dict[str, Any], text: str) -> str:
    """Give the node's network cards the rate that a row states; return what was done."""
    uplinks = node.get("uplinks", [])
    adapters = sum(node["count"] if each["from"] == "device" else 1 for each in uplinks)
    stated = node_bandwidth(text, node["count"], adapters) if adapters else None
    if stated is None:
        return f"network: as shipped; the row says {text!r}"
    for each in uplinks:
        if parse_bandwidth(each["bandwidth"]) != stated / adapters:
            each["bandwidth"] = write_bandwidth(stated / adapters)
            each["source"] = f'The row: "{text}". Latency as shipped: {each["source"]}'
    return f"network: {text!r}, {write_bandwidth(stated / adapters)} for each of {adapters} cards"


@cache
def _shipped(name: str) -> dict[str, Any]:
    return read_document(str(preset_path("topologies", name)), "topology").data
