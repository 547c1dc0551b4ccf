"""WHERE a plan runs: devices, hosts, links, and the route between any two ranks."""

from simulator.topology.build import build_topology
from simulator.topology.device import Device, Efficiency, Host
from simulator.topology.layout import Layout
from simulator.topology.link import Link, Route, Routes
from simulator.topology.protocols import Collectives, Protocol
from simulator.topology.schema import TopologySchema, json_schema
from simulator.topology.topology import Topology

__all__ = [
    "Collectives",
    "Device",
    "Efficiency",
    "Host",
    "Layout",
    "Link",
    "Protocol",
    "Route",
    "Routes",
    "Topology",
    "TopologySchema",
    "build_topology",
    "json_schema",
]
