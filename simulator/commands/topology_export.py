"""``plancast topology export``: write a topology for another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from simulator.commands.options import Settings


def export(
    format: Literal["infragraph"],
    topology: str,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o", help="File to write; stdout if absent.")] = None,
    settings: Settings = (),
) -> None:
    """Write a topology for another tool.

    Parameters
    ----------
    format
        The tool's format.
    topology
        Topology file, or the name of a preset.
    """
    from simulator.load import load_topology
    from simulator.topology.exporters.infragraph import to_infragraph

    write(output, to_infragraph(load_topology(topology, settings)))


def write(output: Path | None, data: dict[str, Any]) -> None:
    """Write plain data as YAML, to a file or to stdout."""
    from simulator.reports.yaml_text import yaml_text
    from simulator.results.recording import write_bytes

    text = yaml_text(data)
    if output:
        write_bytes(output, text.encode())
    else:
        print(text, end="")
