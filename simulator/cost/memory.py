"""Bytes that each rank needs at its worst moment."""

from __future__ import annotations

from dataclasses import dataclass, fields

from simulator.plan.plan import MASTER_BYTES
from simulator.program.instructions import Kind
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
        One gradient a parameter.
    optimizer_state
        Momentum or Adam moments, fp32.
    activations
        What backward needs of all micro-batches in flight, at the worst moment.
    comm_buffers
        Tensors being sent and received between stages.
    """

    params: float
    grads: float
    optimizer_state: float
    activations: float
    comm_buffers: float

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
    optimizer state: 16 with Adam (ZeRO, arXiv 1910.02054, section 3.1).
    """
    plan = program.plan
    stages = program.stages_of(pipeline_rank)
    parameters = sum(stage.num_parameters for stage in stages)
    updated = sum(program.updated_parameters(stage.index) for stage in stages)
    gathered = _peak_gathered(program, pipeline_rank)
    master = MASTER_BYTES if plan.has_master_weights else 0
    borders = [
        program.tensor_bytes(names)
        for stage in stages
        for names in (stage.receives, stage.sends, stage.gradients_in, stage.gradients_out)
    ]
    return Memory(
        params=float(updated * (plan.itemsize + master) + gathered * plan.itemsize),
        grads=float(parameters * plan.itemsize),
        optimizer_state=float(updated * plan.optimizer.states * MASTER_BYTES),
        activations=_peak_activations(program, pipeline_rank),
        comm_buffers=sum(borders),
    )


def _peak_gathered(program: Program, pipeline_rank: int) -> int:
    """Walk the list: an UNSHARD makes a bucket whole, its RESHARD frees it; return the most scalars at once."""
    held = peak = 0
    for kind, stage, _, part in program.lists[pipeline_rank]:
        if kind in GATHERS:
            elements = program.stages[stage].buckets[part].elements
            held += elements if kind is Kind.UNSHARD else -elements
            peak = max(peak, held)
    return peak


def _peak_activations(program: Program, pipeline_rank: int) -> float:
    """Walk the list: forward keeps what its backward needs, the backward of its weights frees it."""
    changes: dict[tuple[Kind, int, int], float] = {}
    for stage in program.stages_of(pipeline_rank):
        for part, segment in enumerate(stage.segments):
            saved, kept = _saved(program, stage, part), _kept_inputs(program, stage, part)
            changes[Kind.R if segment.recomputed else Kind.F, stage.index, part] = saved
            if segment.recomputed:
                changes[Kind.F, stage.index, part] = kept
            changes[Kind.B, stage.index, part] = changes[Kind.W, stage.index, part] = -saved - kept
    held = peak = 0.0
    for kind, its_stage, _, part in program.lists[pipeline_rank]:
        held += changes.get((kind, its_stage, part), 0.0)
        peak = max(peak, held)
    return peak


def _saved(program: Program, stage: Stage, part: int) -> float:
    """Return the bytes that a segment keeps from its forward, or from running it again, for its backward.

    Borders are new tensors cut out of the graph: the inputs of a segment live as long as it does. Those of a block that
    is recomputed have been kept since its first forward.
    """
    plan, segment = program.plan, stage.segments[part]
    saved = program.graph.saved_bytes(segment.nodes, plan.microbatch_size, plan.itemsize, segment.inputs)
    if not segment.recomputed:
        return saved
    known = set(stage.unit_inputs(part)).intersection(segment.inputs)
    return saved - program.graph.saved_bytes((), plan.microbatch_size, plan.itemsize, known)


def _kept_inputs(program: Program, stage: Stage, part: int) -> float:
    """Return the bytes that a block which is recomputed keeps from its first segment's forward to its backward."""
    plan = program.plan
    if not stage.segments[part].recomputed or part != stage.unit_of(part)[0]:
        return 0.0
    return program.graph.saved_bytes((), plan.microbatch_size, plan.itemsize, stage.unit_inputs(part))


def capacity(topology: Topology, rank: int) -> float:
    """Return the bytes that one rank may use: its device's memory, or its share of a host's."""
    shared = topology.host(rank).memory
    own = topology.device(rank).memory
    return own if shared is None else min(own, shared / topology.devices_per_node)
