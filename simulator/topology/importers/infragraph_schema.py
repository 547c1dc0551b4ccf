"""InfraGraph's file: the parts of its schema that say what is joined to what.

Source: InfraGraph's OpenAPI description, 2.4 (https://infragraph.dev/openapi.html). Older files say `npu` for `xpu`.
"""

from typing import Literal

from pydantic import Field

from simulator.inputs.fields import NonNegativeInt, NonNegativeNumber, PositiveNumber, Text
from simulator.topology.importers.foreign import ForeignModel


class BandwidthSchema(ForeignModel):
    """One of three units; transfers/s say nothing about bytes/s without the number of lanes."""

    gigabits_per_second: PositiveNumber | None = None
    gigabytes_per_second: PositiveNumber | None = None
    gigatransfers_per_second: PositiveNumber | None = None


class LatencySchema(ForeignModel):
    """One of three units."""

    ms: NonNegativeNumber | None = None
    us: NonNegativeNumber | None = None
    ns: NonNegativeNumber | None = None


class PhysicalSchema(ForeignModel):
    """What a link can do."""

    bandwidth: BandwidthSchema | None = None
    latency: LatencySchema | None = None


class LinkSchema(ForeignModel):
    """A class of links."""

    name: Text
    physical: PhysicalSchema | None = None


class ComponentSchema(ForeignModel):
    """A part of a device, `count` times; with `choice: device` a device of that name."""

    name: Text
    choice: Literal["custom", "device", "cpu", "xpu", "npu", "nic", "memory", "port", "switch"]
    count: NonNegativeInt


class EndpointSchema(ForeignModel):
    """Components by name and Python slice, as in `xpu[0:4]`; `device` or `instance` is what they are in."""

    component: Text
    device: Text | None = None
    instance: Text | None = None


class EdgeSchema(ForeignModel):
    """Links between two groups of components: pairwise, or each with each."""

    ep1: EndpointSchema
    ep2: EndpointSchema
    link: Text
    scheme: Literal["one2one", "many2many"] = "many2many"


class DeviceSchema(ForeignModel):
    """A machine, a switch or a card."""

    name: Text
    components: list[ComponentSchema] = Field(default=[])
    links: list[LinkSchema] = Field(default=[])
    edges: list[EdgeSchema] = Field(default=[])


class InstanceSchema(ForeignModel):
    """`count` devices of one kind."""

    name: Text
    device: Text
    count: NonNegativeInt


class InfrastructureSchema(ForeignModel):
    """The whole file."""

    name: str = "infragraph"
    devices: list[DeviceSchema]
    links: list[LinkSchema] = Field(default=[])
    instances: list[InstanceSchema]
    edges: list[EdgeSchema] = Field(default=[])
