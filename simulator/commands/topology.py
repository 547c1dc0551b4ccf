"""``plancast topology``: look at a cluster."""

from __future__ import annotations

from simulator.commands.options import Format, Settings, print_csv, print_json


def show(topology: str, /, *, settings: Settings = (), format: Format = "table") -> None:
    """Show devices, links, routes and the sources of the numbers; as csv, one line a class of links.

    Parameters
    ----------
    topology
        Topology file, or the name of a preset.
    """
    from simulator.load import load_topology
    from simulator.reports.topology import describe, render

    built = load_topology(topology, settings)
    if format == "json":
        print_json(describe(built))
    elif format == "csv":
        print_csv(describe(built)["links"])
    else:
        from simulator.reports.terminal import show as show_on_terminal

        show_on_terminal(render(built))
