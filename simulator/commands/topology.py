"""``plancast topology``: look at a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from simulator.commands.options import Format, Settings, check_picture, print_csv, print_json


def show(
    topology: str,
    /,
    *,
    settings: Settings = (),
    output: Annotated[Path | None, Parameter(alias="-o", help="Write a picture as well (OUT.svg).")] = None,
    format: Format = "table",
) -> None:
    """Show devices, links, routes, bisection and the sources of the numbers; as csv, one line a class of links.

    Parameters
    ----------
    topology
        Topology file, or the name of a preset.
    """
    from simulator.load import load_topology
    from simulator.reports.topology import describe, render

    check_picture(output)
    built = load_topology(topology, settings)
    if output:
        from simulator.reports.topology_picture import svg
        from simulator.results.recording import write_bytes

        write_bytes(output, svg(built).encode())
    if format == "json":
        print_json(describe(built))
    elif format == "csv":
        print_csv(describe(built)["links"])
    else:
        from simulator.reports.terminal import show as show_on_terminal

        show_on_terminal(render(built))
