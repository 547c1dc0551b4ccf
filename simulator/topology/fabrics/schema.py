"""The key `fabric` of a topology file: which kinds there are, and which keys each has."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from simulator.inputs.fields import (
    Bandwidth,
    Flag,
    Name,
    NonNegativeInt,
    PositiveInt,
    PositiveNumber,
    Seconds,
    StrictModel,
    Text,
)

SOURCE = Field(description="Where the numbers come from: a data sheet, a measurement, or the reasoning.")
SWITCH_LATENCY = Field(description="What each switch on the way adds, with the cable behind it.")
AT = Field(default=None, description="A switch of the node where the cables plug in; a lone device needs none.")


class HashSchema(StrictModel):
    """Each pair of ranks keeps to one of the parallel links, which a hash of both ranks and the seed chooses."""

    hash: NonNegativeInt = Field(description="The seed.")


def _form_of_ecmp(given: object) -> str:
    return "hash" if isinstance(given, dict | HashSchema) else "word"


Ecmp = Annotated[
    Annotated[Literal["ideal"], Tag("word")] | Annotated[HashSchema, Tag("hash")],
    Discriminator(_form_of_ecmp),
    Field(description="Parallel links: `ideal`, one trunk with the sum of their capacity, or `{hash: SEED}`."),
]


class SwitchSchema(StrictModel):
    """One ideal switch that joins all nodes and never blocks."""

    kind: Literal["switch"]
    latency: Seconds = Field(description="Added once to every route between nodes.")
    source: Text = SOURCE


class DirectSchema(StrictModel):
    """Cables that join the nodes themselves, which pass on the messages of others."""

    bandwidth: Bandwidth = Field(description="Of one cable, per direction.")
    latency: Seconds = Field(description="Of one cable and the node at its end, one way.")
    at: Name | None = AT
    source: Text = SOURCE


class RingSchema(DirectSchema):
    """Each node joined to the next, and the last to the first."""

    kind: Literal["ring"]


class TorusSchema(DirectSchema):
    """Nodes on a grid; messages go along the first dimension, then along the second, and so on."""

    kind: Literal["torus"]
    dims: list[PositiveInt] = Field(
        min_length=1, max_length=6, description="Nodes along each dimension, [4, 4, 4]; the last is numbered fastest."
    )
    wrap: Flag = Field(default=True, description="The last node of each line is joined to its first; false is a mesh.")


class FullMeshSchema(DirectSchema):
    """A cable between every two nodes."""

    kind: Literal["full_mesh"]


class SpinesSchema(StrictModel):
    """Leaves under spines."""

    oversubscription: PositiveNumber = Field(
        default=1.0, description="What enters a leaf from its nodes over what leaves it upwards; 4 for 4:1."
    )
    spines: PositiveInt = Field(default=1, description="Parallel ways up from a leaf, among which a hash may choose.")
    ecmp: Ecmp = "ideal"
    latency: Seconds = SWITCH_LATENCY
    source: Text = SOURCE


class FatTreeSchema(SpinesSchema):
    """Consecutive nodes share a leaf; spines join the leaves, and cores the pods if there are any."""

    kind: Literal["fat_tree"]
    nodes_per_leaf: PositiveInt = Field(description="All cards of a node plug into one leaf.")
    leaves_per_pod: PositiveInt | None = Field(default=None, description="Adds a level: spines of a pod under cores.")
    pod_oversubscription: PositiveNumber = Field(
        default=1.0, description="What enters a pod's spines from its leaves over what leaves them upwards."
    )
    cores: PositiveInt = Field(default=1, description="Parallel ways up from each spine of a pod.")


class RailOptimizedSchema(SpinesSchema):
    """One leaf for each network card of a node (a rail) in each pod; spines join the leaves."""

    kind: Literal["rail_optimized"]
    nodes_per_pod: PositiveInt = Field(description="Nodes that share the leaves of a pod.")
    cross_rail: Literal["spine", "pxn"] = Field(
        default="spine",
        description="How a message reaches another rail: over a spine, or inside its node to the device of that rail.",
    )


class DragonflySchema(StrictModel):
    """Groups of routers, all joined to all; cables between every two groups."""

    kind: Literal["dragonfly"]
    nodes_per_router: PositiveInt = Field(description="All cards of a node plug into one router.")
    routers_per_group: PositiveInt = Field(description="Each is joined to each other.")
    bandwidth: Bandwidth = Field(description="Between two routers of a group, per direction.")
    global_bandwidth: Bandwidth = Field(description="Of one cable between groups, per direction.")
    global_links: PositiveInt = Field(default=1, description="Cables between every two groups.")
    ecmp: Ecmp = "ideal"
    latency: Seconds = SWITCH_LATENCY
    global_latency: Seconds = Field(default="0 s", validate_default=True, description="What a long cable adds.")
    source: Text = SOURCE


FabricSchema = Annotated[
    SwitchSchema | RingSchema | TorusSchema | FullMeshSchema | FatTreeSchema | RailOptimizedSchema | DragonflySchema,
    Field(discriminator="kind"),
]
