"""Bytes that each rank needs at its worst moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from simulator.cost.workspace import workspace
from simulator.model.graph import INPUT
from simulator.model.layers.base import FLOAT_BYTES, INDEX_BYTES, count
from simulator.plan.framework_memory import FRAMEWORK_MEMORY, PLAIN
from simulator.plan.plan import MASTER_BYTES, Plan
from simulator.program.instructions import Kind
from simulator.program.liveness import held_after
from simulator.program.program import Program
from simulator.program.sharding import GATHERS
from simulator.program.stage import Stage
from simulator.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Peak bytes of one rank by what they hold.

    Parameters
    ----------
    params
        Parameters, with the fp32 master copy under bf16; where they are sharded, the rank's part and what is gathered.
    grads
        One gradient a parameter; where each micro-batch's are reduced, of the rank's part alone.
    optimizer_state
        Momentum or Adam moments, fp32.
    activations
        What all micro-batches in flight hold at the worst moment, between two computations.
    data
        Inputs and targets of the step.
    comm_buffers
        Gradients being sent to the stage before; their micro-batch is gone. Where parameter gradients are
        reduced in each micro-batch, the bucket that is filled, and the one that travels beside. With a framework that
        copies, what it copies from and to.
    workspace
        With a framework, what is held while an instruction runs beyond the most that is held between two.
    """

    params: float
    grads: float
    optimizer_state: float
    activations: float
    data: float
    comm_buffers: float
    workspace: float = 0.0

    @property
    def total(self) -> float:
        """All terms together."""
        return sum(self.terms().values())

    def terms(self) -> dict[str, float]:
        """Return the terms by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def dominant(self) -> str:
        """Return the name of the largest term."""
        return max(self.terms().items(), key=lambda term: term[1])[0]


def peak_memory(program: Program, pipeline_rank: int) -> Memory:
    """Return the peak memory of the ranks at one place of the pipeline.

    Mixed precision keeps 2 + 2 + 4 bytes of weight, gradient and master weight a parameter and 4 bytes for each
    optimizer state: 16 with Adam (ZeRO, arXiv 1910.02054, section 3.1). Of N ranks that share out, ZeRO's stage 1 keeps
    1/N of the 12 of the optimizer, stage 2 of the gradients too, stage 3 of all (figure 1 there).
    """
    plan = program.plan
    stages = program.stages_of(pipeline_rank)
    parameters = sum(program.kept_parameters(stage.index) for stage in stages)
    updated = sum(program.updated_parameters(stage.index) for stage in stages)
    framework = FRAMEWORK_MEMORY.get(plan.framework, PLAIN)
    kept = parameters if plan.gathers_updates else updated
    if plan.is_sharded and plan.has_master_weights and not framework.keeps_cast:
        kept = 0
    gathered = _peak_gathered(program, pipeline_rank)
    here = 0 if plan.updates_on_host else updated
    master = MASTER_BYTES if plan.has_master_weights else 0
    return Memory(
        params=float(here * master + (kept + gathered) * plan.itemsize),
        grads=float((here if plan.reduces_each else parameters) * plan.gradient_itemsize),
        optimizer_state=float(here * plan.optimizer.states * MASTER_BYTES),
        activations=max(held_after(program, pipeline_rank), default=0.0),
        data=_data(program, pipeline_rank),
        comm_buffers=sum(program.tensor_bytes(stage.gradients_out) for stage in stages)
        + _staging(stages, plan, framework.staging and plan.is_sharded),
        workspace=workspace(program, pipeline_rank),
    )


def host_memory(program: Program, pipeline_rank: int) -> float:
    """Return the bytes of host memory that a rank takes for what the plan offloads.

    Master weights, optimizer state and the summed gradients of what the rank updates (ZeRO-Offload, arXiv 2101.06840,
    section 3): 14 bytes a parameter with Adam and 16-bit gradients.
    """
    plan = program.plan
    if not plan.updates_on_host:
        return 0.0
    updated = sum(program.updated_parameters(stage.index) for stage in program.stages_of(pipeline_rank))
    return float(updated * ((1 + plan.optimizer.states) * MASTER_BYTES + plan.gradient_itemsize))


def _data(program: Program, pipeline_rank: int) -> float:
    """Return the bytes of a step's inputs and targets on the ranks that read them."""
    graph, plan = program.graph, program.plan
    target = plan.microbatch_size * count(graph.target_shape) * (INDEX_BYTES if graph.num_classes else FLOAT_BYTES)
    nodes = [node for stage in program.stages_of(pipeline_rank) for node in stage.nodes]
    inputs = program.tensor_bytes((INPUT,)) if any(INPUT in node.inputs for node in nodes) else 0.0
    return plan.num_microbatches // program.pipelines * (inputs + (target if graph.loss in nodes else 0.0))


def _staging(stages: Sequence[Stage], plan: Plan, copies: bool) -> float:
    """Return the bytes of what is not kept whole while it travels.

    Gradients of a bucket, and of the one before it where that travels meanwhile; where a framework ``copies``, these
    also if gradients are kept whole, and the largest bucket of parameters in the buffer that was gathered.
    """
    sizes = sorted((bucket.elements for stage in stages for bucket in stage.buckets), reverse=True)
    reduced = sum(sizes[: 2 if plan.dp_overlap else 1]) if plan.reduces_each or copies else 0
    gathered = sizes[0] if sizes and copies else 0
    return float(reduced * plan.gradient_itemsize + gathered * plan.itemsize)


def _peak_gathered(program: Program, pipeline_rank: int) -> int:
    """Walk the list: an UNSHARD makes a bucket whole, its RESHARD frees it; return the most scalars at once."""
    if not any(kind in GATHERS for kind, _, _ in program.coded(pipeline_rank).works):
        return 0
    held = peak = 0
    for kind, stage, _, part in program.lists[pipeline_rank]:
        if kind in GATHERS:
            elements = program.stages[stage].buckets[part].elements
            held -= elements if kind is Kind.RESHARD else -elements
            peak = max(peak, held)
    return peak


def capacity(topology: Topology, rank: int) -> float:
    """Return the bytes that one rank may use: its device's memory, or its share of a host's."""
    device = topology.device(rank)
    return device.memory if device.backend == "cuda" else min(device.memory, device.host.memory)
