"""The topology file: which keys it has. Every dimensioned value is a string with a unit; bandwidth is per direction."""

import json
from typing import Annotated

from pydantic import Discriminator, Field, Tag

from simulator.inputs.fields import (
    Bandwidth,
    Bytes,
    Flag,
    Name,
    PositiveFraction,
    PositiveInt,
    Seconds,
    StrictModel,
    Text,
)
from simulator.topology.device_schema import DeviceSchema
from simulator.topology.fabrics.schema import SOURCE, FabricSchema
from simulator.topology.library import CollectivesSchema


class HostUpdateSchema(StrictModel):
    """An optimizer's update that runs on the host."""

    bandwidth: Bandwidth = Field(description="Reads and writes together, by all ranks of the node.")
    source: Text = SOURCE


class HostSchema(StrictModel):
    """What the ranks of one node share: when they compute on its CPU, and for what plans offload to it."""

    cores: PositiveInt | None = Field(default=None, description="Without it, the compute of ranks shares nothing.")
    memory: Bytes | None = Field(default=None, description="Shared by the ranks of the node.")
    update: HostUpdateSchema | None = Field(default=None, description="For `offload: optimizer`.")


class LinkSchema(StrictModel):
    """A full-duplex cable."""

    between: tuple[Name, Name] = Field(description="Its ends; `device` is each device of the node, `device0` is one.")
    bandwidth: Bandwidth = Field(description="Per direction.")
    latency: Seconds = Field(description="One way.")
    source: Text = SOURCE


class UplinkSchema(StrictModel):
    """A network card: what joins the node to the fabric."""

    origin: Name = Field(alias="from", description="Where it sits: `device` is one card for each device.")
    bandwidth: Bandwidth = Field(description="Per direction.")
    latency: Seconds = Field(description="One way, from here to the fabric.")
    source: Text = SOURCE


class NodeSchema(StrictModel):
    """The template of every node."""

    device: Name = Field(description="A kind under `devices`.")
    count: PositiveInt = Field(description="Devices, and so ranks, in a node.")
    switches: list[Name] = Field(default=[], description="They forward everything; devices forward nothing.")
    reduces: list[Name] = Field(default=[], description="Switches that can sum what passes (NVLink SHARP).")
    host: HostSchema | None = Field(default=None, description="For CPU nodes.")
    links: list[LinkSchema] = Field(default=[], description="Inside the node.")
    uplinks: list[UplinkSchema] = Field(default=[], description="From the node to the fabric.")


class NodeGroupSchema(StrictModel):
    """Equal nodes, among other groups of equal nodes."""

    node: NodeSchema
    count: PositiveInt = Field(description="How many nodes like this.")


class GraphSchema(StrictModel):
    """Every device, switch and cable by name."""

    devices: dict[Name, Name] = Field(min_length=1, description="Name: kind under `devices`. Rank r is the r-th.")
    nodes: dict[Name, Annotated[list[Name], Field(min_length=1)]] = Field(
        default={}, description="Host: its devices, in the order of `devices`. Default: one host holds all."
    )
    switches: list[Name] = Field(default=[], description="They forward everything.")
    reduces: list[Name] = Field(default=[], description="Switches that can sum what passes (NVLink SHARP).")
    transit: Flag = Field(default=False, description="Devices forward the traffic of others, as in a ring.")
    links: list[LinkSchema] = Field(default=[], description="All cables.")


class DegradeSchema(StrictModel):
    """Links that have lost bandwidth; one direction of a cable each."""

    link: Text = Field(description="A link's name, node3/device1->node3/nvswitch; * stands for anything.")
    bandwidth: PositiveFraction = Field(description="What is left of it.")


class SlowSchema(StrictModel):
    """Devices that are slower than their kind."""

    device: Text = Field(description="A device's name, node2/device5; * stands for anything.")
    speed: PositiveFraction = Field(description="80% takes 1 / 0.8 of the time.")


def _form_of_nodes(given: object) -> str:
    return "groups" if isinstance(given, list) else "count"


Nodes = Annotated[
    Annotated[PositiveInt, Tag("count")]
    | Annotated[list[NodeGroupSchema], Field(min_length=1, max_length=1000), Tag("groups")],
    Discriminator(_form_of_nodes),
]


class TopologySchema(StrictModel):
    """A cluster: `node` (a template, repeated `nodes` times), groups of nodes, or `graph` (everything by name)."""

    name: Name
    description: str = ""
    devices: dict[Name, DeviceSchema] = Field(min_length=1, description="Kinds of device.")
    node: NodeSchema | None = None
    nodes: Nodes = Field(default=1, description="How many nodes; where they differ, a list of {node: ..., count: ...}.")
    fabric: FabricSchema | None = Field(default=None, description="What joins the nodes; needed for two or more.")
    graph: GraphSchema | None = None
    degrade: list[DegradeSchema] = Field(default=[], description="Links that have lost bandwidth.")
    slow: list[SlowSchema] = Field(default=[], description="Devices that are slower than their kind.")
    collectives: CollectivesSchema | None = None


def json_schema() -> str:
    """The JSON Schema of a topology file, as text, for editors and for `topologies/topology.schema.json`."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **TopologySchema.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
