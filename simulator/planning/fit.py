"""Does a plan fit into memory, and if not: what overflows, and which small change helps."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from simulator.cost.memory import Memory, capacity, host_memory, peak_memory
from simulator.errors import ExecutionError, PlancastError
from simulator.load import Inputs, apply_settings, build
from simulator.planning.places import places
from simulator.program.program import Program
from simulator.topology import Topology
from simulator.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Memory of the ranks at one place of the pipeline.

    Parameters
    ----------
    pipeline_rank
        The place.
    memory
        What each of its ranks needs, bytes.
    capacity
        What the smallest of its devices holds, bytes.
    host, host_capacity
        What each of its ranks offloads, and its share of the smallest of their hosts' memory, bytes.
    """

    pipeline_rank: int
    memory: Memory
    capacity: float
    host: float = 0.0
    host_capacity: float = float("inf")

    @property
    def fits(self) -> bool:
        """Whether it fits."""
        return self.memory.total <= self.capacity and self.host <= self.host_capacity


def fit(program: Program, topology: Topology) -> tuple[Fit, ...]:
    """Return the verdict for each pipeline coordinate."""
    smallest = [float("inf")] * len(program.lists)
    hosts = list(smallest)
    for place in places(program, topology):
        smallest[place.coordinate] = min(smallest[place.coordinate], capacity(topology, place.rank))
        hosts[place.coordinate] = min(hosts[place.coordinate], topology.device(place.rank).host.memory)
    return tuple(
        Fit(
            pipeline_rank=coordinate,
            memory=peak_memory(program, coordinate),
            capacity=smallest[coordinate],
            host=host_memory(program, coordinate),
            host_capacity=hosts[coordinate],
        )
        for coordinate in range(len(program.lists))
    )


def require_fit(jobs: Mapping[str, Inputs]) -> None:
    """Refuse to run what does not fit: the machine would swap or kill processes. Raises ExecutionError."""
    for name, inputs in jobs.items():
        fullest = worst(fit(inputs.program, inputs.topology))
        if not fullest.fits:
            raise ExecutionError(
                f"{name} does not fit: {format_bytes(fullest.memory.total)} of {format_bytes(fullest.capacity)} on the "
                f"fullest rank, most of it {fullest.memory.dominant()}; plancast check names a change that helps"
            )


def worst(fits: tuple[Fit, ...]) -> Fit:
    """Return the fullest place."""
    return max(fits, key=lambda each: max(each.memory.total / each.capacity, each.host / each.host_capacity))


def remedy(inputs: Inputs) -> tuple[str, ...]:
    """Return the first small change of the plan, as ``--set`` takes it, that makes it fit; empty if none does.

    Changes that keep the batch and the number of devices come first. Each is really compiled and checked. More tensor
    parallelism is proposed only inside a node: across nodes its all-reduces cost more than any other change.
    """
    for settings in _changes(inputs):
        documents = copy.deepcopy(inputs.documents)
        try:
            apply_settings(documents, settings)
            changed = build(documents)
        except PlancastError:
            continue
        if changed.plan.tp > inputs.plan.tp and _spans_nodes(changed, "tp"):
            continue
        if all(each.fits for each in fit(changed.program, changed.topology)):
            return settings
    return ()


def _spans_nodes(inputs: Inputs, axis: str) -> bool:
    """Return whether some group along an axis has ranks on several nodes."""
    node = inputs.topology.node
    return any(len({node(rank) for rank in group}) > 1 for group in inputs.plan.mesh.groups(axis))


def _changes(inputs: Inputs) -> Iterator[tuple[str, ...]]:
    plan, nodes = inputs.plan, inputs.topology.num_nodes
    if plan.schedule == "gpipe" and plan.num_microbatches > plan.pp:
        yield ("plan.schedule=1f1b",)
    if plan.microbatch_size % 2 == 0:
        half = f"plan.microbatch_size={plan.microbatch_size // 2}"
        yield (half, f"plan.num_microbatches={plan.num_microbatches * 2}")
    if plan.recompute == "none":
        yield ("plan.recompute=full",)
    if plan.sharding == "none" and plan.dp > 1:
        yield ("plan.sharding=zero1",)
    if not plan.is_sharded and plan.dp > 1:
        yield ("plan.sharding=fsdp",)
    if plan.offload == "none":
        yield ("plan.offload=optimizer",)
    for axis, size in (("tp", plan.tp), ("pp", plan.pp)):
        for factor in (2, 4, 8):
            yield (f"plan.{axis}={size * factor}", "plan.dp=auto")
    for axis, size in (("tp", plan.tp), ("pp", plan.pp)):
        yield (f"topology.nodes={nodes * 2}", f"plan.{axis}={size * 2}")
