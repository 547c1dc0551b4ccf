"""``plancast netlab``: a topology's hosts on this machine, joined by links as slow as the file says."""

from __future__ import annotations

import sys

from simulator.commands.options import Format, Settings, print_csv, print_json


def up(topology: str, /, *, settings: Settings = ()) -> None:
    """Build a topology: a network namespace for each host and switch, a shaped cable for each link between them.

    Needs Linux, root and iproute2. One lab at a time; with PLANCAST_LAB=NAME in the environment, one of each name.

    Parameters
    ----------
    topology
        Topology file, or the name of a preset (netlab-star, netlab-two-switches, ...).
    """
    from simulator.load import load_topology
    from simulator.netlab.build import up as build_up
    from simulator.netlab.network import missing_latency
    from simulator.units import format_seconds

    lab = build_up(load_topology(topology, settings))
    print(
        f"lab {lab.name} is up as {lab.topology}: {len(lab.namespaces)} namespaces, {len(lab.blueprint.cables)} cables"
    )
    if missing := missing_latency(lab):
        print(
            f"this kernel has no netem: links are up to {format_seconds(missing)} faster than the topology says; "
            "plancast validate --netlab predicts from the latency of messages that it measures",
            file=sys.stderr,
        )


def down() -> None:
    """Remove the lab that is up: processes in it, namespaces, interfaces; also after a crash."""
    from simulator.netlab.build import down as take_down
    from simulator.netlab.lab import find, lab_name

    name = lab_name()
    lab = find(name)
    if lab is None:
        print(f"lab {name} is not up")
        return
    take_down(lab)
    print(f"lab {name} is down")


def show(*, format: Format = "table") -> None:
    """Show the lab that is up: hosts, links and processes; as csv, one line a link."""
    from simulator.errors import Diagnostic, InputError
    from simulator.netlab.lab import find, lab_name
    from simulator.netlab.network import describe
    from simulator.reports.netlab import render
    from simulator.reports.terminal import show as show_on_terminal

    name = lab_name()
    lab = find(name)
    if lab is None:
        message, hint = "is not up", "plancast netlab up TOPOLOGY"
        raise InputError([Diagnostic(f"lab {name}", "", message, hint)])
    found = describe(lab)
    if format == "json":
        print_json(found)
    elif format == "csv":
        print_csv(found["links"])
    else:
        show_on_terminal(*render(found))
