"""From the key `fabric` to a fabric that fits the nodes."""

from collections.abc import Sequence
from math import prod

from simulator.errors import Problems
from simulator.topology.fabrics.base import Fabric
from simulator.topology.fabrics.dragonfly import Dragonfly
from simulator.topology.fabrics.full_mesh import FullMesh
from simulator.topology.fabrics.schema import (
    DirectSchema,
    DragonflySchema,
    FabricSchema,
    FatTreeSchema,
    HashSchema,
    RailOptimizedSchema,
    RingSchema,
    SwitchSchema,
    TorusSchema,
)
from simulator.topology.fabrics.switch import Switch
from simulator.topology.fabrics.torus import Torus
from simulator.topology.fabrics.tree import Tree

MAX_LINKS = 2**23
"""Links of a fabric; a million ranks in a fat tree have some thousands, in a torus of three dimensions six million."""


def build_fabric(
    spec: FabricSchema, num_nodes: int, cards: Sequence[float], at: str, problems: Problems
) -> Fabric | None:
    """Make the fabric; None when a problem was found, which is then in `problems`.

    Parameters
    ----------
    spec : FabricSchema
        The key `fabric`.
    num_nodes : int
        Nodes that it joins.
    cards : Sequence[float]
        Bytes/s of each network card of the widest node.
    at : str
        Where the cables plug into each node, for fabrics that join the nodes directly.
    problems : Problems
        Gets what is wrong between the keys.
    """
    if not (_check_dims(spec, num_nodes, problems) and _check_hash(spec, problems)):
        return None
    fabric = _fabric(spec, num_nodes, cards, at)
    size = sum(section.size for section in fabric.sections())
    if size > MAX_LINKS:
        problems.add("topology.fabric", f"has {size} links, more than the {MAX_LINKS} there may be")
        return None
    return fabric


def seed_of(spec: FabricSchema | None) -> int | None:
    """The seed of the hash that chooses among parallel links; None where they are ideal trunks."""
    ecmp = getattr(spec, "ecmp", None)
    return ecmp.hash if isinstance(ecmp, HashSchema) else None


def _check_dims(spec: FabricSchema, num_nodes: int, problems: Problems) -> bool:
    if isinstance(spec, TorusSchema) and prod(spec.dims) != num_nodes:
        product = " x ".join(map(str, spec.dims))
        message = f"{product} = {prod(spec.dims)} places for {num_nodes} node{'s'[: num_nodes != 1]}"
        problems.add("topology.fabric.dims", message, f"write nodes: {prod(spec.dims)}, or other dims")
        return False
    return True


def _check_hash(spec: FabricSchema, problems: Problems) -> bool:
    if seed_of(spec) is None:
        return True
    key = "global_links" if isinstance(spec, DragonflySchema) else "spines"
    if getattr(spec, key) == 1:
        message = f"a hash chooses among {key}, of which there is 1"
        problems.add("topology.fabric.ecmp", message, f"write {key}: 4, or ecmp: ideal")
        return False
    return True


def _fabric(spec: FabricSchema, num_nodes: int, cards: Sequence[float], at: str) -> Fabric:
    match spec:
        case SwitchSchema():
            return Switch(latency=spec.latency, num_nodes=num_nodes)
        case RingSchema() | TorusSchema():
            dims, wrap = ((num_nodes,), True) if isinstance(spec, RingSchema) else (tuple(spec.dims), spec.wrap)
            return Torus(dims=dims, wrap=wrap, bandwidth=spec.bandwidth, cable_latency=spec.latency, at=at)
        case DirectSchema():
            return FullMesh(num_nodes=num_nodes, bandwidth=spec.bandwidth, cable_latency=spec.latency, at=at)
        case FatTreeSchema() | RailOptimizedSchema():
            return _tree(spec, num_nodes, cards)
    return Dragonfly(
        num_nodes=num_nodes,
        nodes_per_router=spec.nodes_per_router,
        routers_per_group=spec.routers_per_group,
        bandwidth=spec.bandwidth,
        trunk=spec.global_links * spec.global_bandwidth,
        ways=1 if seed_of(spec) is None else spec.global_links,
        latency=spec.latency,
        global_latency=spec.global_latency,
    )


def _tree(spec: FatTreeSchema | RailOptimizedSchema, num_nodes: int, cards: Sequence[float]) -> Tree:
    hashed = seed_of(spec) is not None
    leaves = -(-num_nodes // (spec.nodes_per_leaf if isinstance(spec, FatTreeSchema) else spec.nodes_per_pod))
    if isinstance(spec, RailOptimizedSchema):
        rails, per_leaf, per_pod, cores, above = max(1, len(cards)), spec.nodes_per_pod, None, 1, 1.0
        below = per_leaf * max(cards, default=0.0)
    else:
        rails, per_leaf, per_pod, cores = 1, spec.nodes_per_leaf, spec.leaves_per_pod, spec.cores
        below, above = per_leaf * sum(cards), spec.pod_oversubscription
    per_pod = per_pod or leaves * rails
    trunk = below / spec.oversubscription
    return Tree(
        num_nodes=num_nodes,
        nodes_per_leaf=per_leaf,
        rails=rails,
        leaves_per_pod=per_pod,
        spines=spec.spines if hashed else 1,
        cores=cores if hashed else 1,
        trunk=trunk,
        pod_trunk=per_pod * trunk / above,
        latency=spec.latency,
        hashed=hashed,
        proxies=isinstance(spec, RailOptimizedSchema) and spec.cross_rail == "pxn",
    )
