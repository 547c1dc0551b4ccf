"""``plancast topology``: look at a cluster."""

from __future__ import annotations

from simulator.commands.options import Settings, TextFormat, print_json


def show(topology: str, /, *, settings: Settings = (), format: TextFormat = "table") -> None:
    """Show devices, links, routes and the sources of the numbers.

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
        return
    from simulator.reports.terminal import show as show_on_terminal

    show_on_terminal(render(built))
