"""A topology as processes in its netlab see it: what TCP gets of the links, and what a message costs at its ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simulator.netlab.blueprint import Places
from simulator.netlab.lab import Lab
from simulator.netlab.wire import GOODPUT, Wire
from simulator.topology import Topology
from simulator.topology.link import Link
from simulator.topology.links import listed_links


def seen(topology: Topology, lab: Lab, wire: Wire) -> Topology:
    """Return the topology whose links have the payload's rate, and whose devices add half a message's latency each.

    Links inside a host stay as fast as the file says. Where the kernel holds frames back, the measured latency
    contains what the route between the first and the last rank waits, which is taken off before links add their own.
    """
    places, devices = Places(topology), {topology.router.endpoint(rank) for rank in range(topology.world_size)}
    waited = topology.route(0, topology.world_size - 1).latency if lab.delayed else 0.0
    end = max(0.0, wire.latency - waited) / 2

    def as_seen(link: Link) -> Link:
        shaped = places.of(link.source) != places.of(link.destination)
        ends = sum(endpoint in devices for endpoint in (link.source, link.destination))
        return replace(
            link,
            bandwidth=link.bandwidth * (GOODPUT if shaped else 1.0),
            latency=ends * end + (link.latency if shaped and lab.delayed else 0.0),
        )

    return replace(topology, links=listed_links([as_seen(link) for link in topology.links]))


def missing_latency(lab: Lab) -> float:
    """Return the seconds by which the slowest cable of a lab is faster than its topology says."""
    return 0.0 if lab.delayed else max(port.latency for cable in lab.blueprint.cables for port in cable)


def describe(lab: Lab) -> dict[str, Any]:
    """Return a lab as plain values."""
    spaces = lab.blueprint.spaces
    return {
        "lab": lab.name,
        "topology": lab.topology,
        "delayed": lab.delayed,
        "hosts": [
            {
                "name": space.name,
                "namespace": lab.namespace(index),
                "address": space.address,
                "ranks": list(space.ranks),
            }
            for index, space in enumerate(spaces)
        ],
        "links": [
            {
                "link": f"{spaces[port.space].name}->{spaces[other.space].name}",
                "interface": port.interface,
                "bandwidth_bytes_per_s": port.rate,
                "latency_s": port.latency if lab.delayed else 0.0,
            }
            for cable in lab.blueprint.cables
            for port, other in (cable, cable[::-1])
        ],
        "processes": lab.processes(),
    }
