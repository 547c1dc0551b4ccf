"""WHERE a plan runs: devices, hosts, links, and the route between any two ranks."""

from simulator.topology.build import build_device, build_topology
from simulator.topology.device import AttentionEfficiency, Device, Efficiency, Host
from simulator.topology.device_schema import DeviceSchema
from simulator.topology.layout import Layout
from simulator.topology.link import Link, Route, Routes
from simulator.topology.protocols import Collectives, Protocol
from simulator.topology.schema import TopologySchema, json_schema
from simulator.topology.topology import Topology

__all__ = [
    "AttentionEfficiency",
    "Collectives",
    "Device",
    "DeviceSchema",
    "Efficiency",
    "Host",
    "Layout",
    "Link",
    "Protocol",
    "Route",
    "Routes",
    "Topology",
    "TopologySchema",
    "build_device",
    "build_topology",
    "json_schema",
]
