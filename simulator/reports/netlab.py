"""A netlab on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from simulator.planning.netlab import LabValidation
from simulator.reports.terminal import table
from simulator.units import format_bandwidth, format_seconds


def render(lab: dict[str, Any]) -> list[RenderableType]:
    """Return tables of hosts and links of what `simulator.netlab.network.describe` says."""
    hosts = table("host or switch", "namespace", "address", "ranks")
    for each in lab["hosts"]:
        hosts.add_row(each["name"], each["namespace"], each["address"], ", ".join(map(str, each["ranks"])))
    links = table("link", "interface", "bandwidth", "latency")
    for each in lab["links"]:
        links.add_row(
            each["link"],
            each["interface"],
            format_bandwidth(each["bandwidth_bytes_per_s"]),
            format_seconds(each["latency_s"]),
        )
    processes = ", ".join(map(str, lab["processes"])) or "none"
    return [hosts, links, Text(f"lab {lab['lab']}, as {lab['topology']}; processes: {processes}")]


def remarks(validation: LabValidation) -> Text:
    """Return what predictions for a netlab rest on."""
    wire = validation.wire
    lines = [
        f"messages between two hosts, measured before the run: {format_seconds(wire.latency)} and "
        f"{format_bandwidth(wire.rate)} (payload's share of the slowest link: {format_bandwidth(wire.expected)})"
    ]
    if validation.missing_latency:
        lines.append(
            f"this kernel has no netem: links are up to {format_seconds(validation.missing_latency)} faster than the "
            "topology says, and predicted so"
        )
    return Text("\n".join(lines))
