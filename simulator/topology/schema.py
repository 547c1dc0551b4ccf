"""The topology file: which keys it has. Every dimensioned value is a string with a unit; bandwidth is per direction."""

import json
from typing import Literal

from pydantic import Field

from simulator.inputs.fields import (
    Bandwidth,
    Bytes,
    Flag,
    FlopRate,
    Name,
    OverlapFraction,
    PositiveFraction,
    PositiveInt,
    Seconds,
    StrictModel,
    Text,
)

Dtype = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "fp4"]

SOURCE = Field(description="Where the numbers come from: a data sheet, a measurement, or the reasoning.")


class EfficiencySchema(StrictModel):
    """Fractions of the peaks that large kernels reach."""

    matmul: PositiveFraction = Field(description="Of the dense peak FLOP/s, by a large matrix product.")
    memory: PositiveFraction = Field(description="Of the memory bandwidth, by a streaming kernel.")
    source: Text = SOURCE


class OverlapSchema(StrictModel):
    """What communication takes from computing that goes on meanwhile: memory bandwidth, and cores that copy and sum."""

    fraction: OverlapFraction = Field(description="By which computing is slower beside one message at full speed.")
    source: Text = SOURCE


class DeviceSchema(StrictModel):
    """One kind of device: a GPU, a CPU process, or a timer in place of either."""

    backend: Literal["cuda", "cpu", "emulated"] = Field(
        default="cuda", description="What the executor runs on; emulated waits for the predicted time of computations."
    )
    memory: Bytes = Field(description="Capacity.")
    memory_bandwidth: Bandwidth = Field(description="Peak, reads and writes together.")
    peak: dict[Dtype, FlopRate] = Field(min_length=1, description="Dense peak (no structured sparsity) by dtype.")
    efficiency: EfficiencySchema | None = Field(default=None, description="Default: matmul 60%, memory 80%.")
    launch_overhead: Seconds = Field(description="What each kernel costs besides its work.")
    speed: PositiveFraction = Field(default="100%", validate_default=True, description="80% is a slow device.")
    overlap_slowdown: OverlapSchema | None = Field(
        default=None, description="Default: none. Not for devices that share a host's cores, which say it themselves."
    )
    source: Text = SOURCE


class HostSchema(StrictModel):
    """What the ranks of one node share when they compute on its CPU."""

    cores: PositiveInt | None = Field(default=None, description="Without it, the compute of ranks shares nothing.")
    memory: Bytes | None = Field(default=None, description="Shared by the ranks of the node.")


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
    host: HostSchema | None = Field(default=None, description="For CPU nodes.")
    links: list[LinkSchema] = Field(default=[], description="Inside the node.")
    uplinks: list[UplinkSchema] = Field(default=[], description="From the node to the fabric.")


class SwitchFabricSchema(StrictModel):
    """One ideal switch that joins all nodes and never blocks."""

    kind: Literal["switch"]
    latency: Seconds = Field(description="Added once to every route between nodes.")
    source: Text = SOURCE


class GraphSchema(StrictModel):
    """Every device, switch and cable by name."""

    devices: dict[Name, Name] = Field(min_length=1, description="Name: kind under `devices`. Rank r is the r-th.")
    switches: list[Name] = Field(default=[], description="They forward everything.")
    transit: Flag = Field(default=False, description="Devices forward the traffic of others, as in a ring.")
    links: list[LinkSchema] = Field(default=[], description="All cables.")


class TopologySchema(StrictModel):
    """A cluster: either `node` (a template, repeated `nodes` times) or `graph` (everything by name)."""

    name: Name
    description: str = ""
    devices: dict[Name, DeviceSchema] = Field(min_length=1, description="Kinds of device.")
    node: NodeSchema | None = None
    nodes: PositiveInt = Field(default=1, description="How many nodes.")
    fabric: SwitchFabricSchema | None = Field(default=None, description="What joins the nodes; needed for two or more.")
    graph: GraphSchema | None = None


def json_schema() -> str:
    """The JSON Schema of a topology file, as text, for editors and for `topologies/topology.schema.json`."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **TopologySchema.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
