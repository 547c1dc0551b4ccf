"""A validated plan file becomes a Plan: what was left open is inferred, what contradicts is reported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches

from simulator.errors import Problems
from simulator.plan.batch import batch_of
from simulator.plan.divisors import divisors, neighbours
from simulator.plan.frameworks import FRAMEWORKS
from simulator.plan.mesh import AXES, Mesh
from simulator.plan.plan import DTYPE_BYTES, NEEDED, Optimizer, Plan
from simulator.plan.schedule_keys import ScheduleRules, check_length, schedule_text, stages_per_rank
from simulator.plan.schema import PlanSchema
from simulator.plan.sharding import check_sharding, sharding_of
from simulator.topology import Topology

PIPELINE = "pipeline"
"""Value of ``vocab_parallel`` with which the ranks of a pipeline share the vocabulary."""

AS_WRITTEN = (
    "name",
    "schedule",
    "dtype",
    "dp_overlap",
    "bucket_size",
    "p2p_overlap",
    "tp_overlap",
    "scatter_gather",
    "optimizer_barrier",
    "ep",
    "expert_dispatch",
    "context_parallel",
    "activation_limit",
    "sequence_parallel",
    "recompute",
    "recompute_blocks",
    "offload",
    "framework",
    "flash_kernel",
    "cuda_graphs",
    "fused_experts",
    "epochs",
)
"""Keys of the file that a plan takes over as they are."""


def resolve_plan(
    spec: PlanSchema, topology: Topology, schedules: Mapping[str, ScheduleRules], problems: Problems
) -> Plan | None:
    """Return the plan for a topology, or None after reporting every contradiction.

    Parameters
    ----------
    spec
        The validated file.
    topology
        Gives the world size and the dtypes that its devices have.
    schedules
        The known schedules by name.
    problems
        Collects what is wrong.
    """
    before = len(problems)
    mesh = _mesh(spec, topology.world_size, problems)
    _check_dtype(spec, topology, problems)
    _check_sequence_parallel(spec, problems)
    _check_expert_tp(spec, problems)
    _check_recompute(spec, problems)
    _check_offload(spec, problems)
    _check_pipelined_vocabulary(spec, problems)
    _check_framework(spec, problems)
    batch = batch_of(spec, mesh.size("dp"), problems) if mesh else None
    text = schedule_text(spec, problems)
    check_sharding(spec, problems)
    stages = stages_per_rank(spec, schedules, batch[1] if batch else spec.num_microbatches, problems)
    if mesh and batch:
        check_length(mesh.size("pp") * stages, batch[1], problems)
    if mesh is None or batch is None or len(problems) > before:
        return None
    return Plan(
        mesh=mesh,
        microbatch_size=batch[0],
        num_microbatches=batch[1],
        optimizer=Optimizer(**spec.optimizer.model_dump()),
        num_stages_per_rank=stages,
        expert_tp=spec.expert_tp or spec.tp,
        schedule_file=spec.schedule_file or "",
        schedule_text=text,
        attention=spec.attention or "",
        vocab_parallel=_shares_vocabulary(spec, topology),
        vocab_pipeline=spec.vocab_parallel == PIPELINE,
        stages=spec.stages if isinstance(spec.stages, str) else tuple(spec.stages),
        dataset_size=spec.dataset_size or 0,
        **sharding_of(spec),
        **spec.model_dump(include=set(AS_WRITTEN)),
    )


def _check_recompute(spec: PlanSchema, problems: Problems) -> None:
    if spec.recompute_blocks and spec.recompute == "none":
        message = "chooses among blocks that recompute, and recompute is none"
        problems.add("plan.recompute_blocks", message, "set recompute: full or selective, or leave it out")


def _check_offload(spec: PlanSchema, problems: Problems) -> None:
    if spec.offload == "optimizer" and spec.sequence_parallel:
        message = "gradients of norms are summed over tp after the others, when these have gone to the host"
        problems.add("plan.offload", message, "set sequence_parallel: false, or leave offload out")


def _mesh(spec: PlanSchema, world: int, problems: Problems) -> Mesh | None:
    axes = list(spec.axes)
    if "cp" not in axes and "dp" in axes and spec.cp == 1:
        axes.insert(axes.index("dp") + 1, "cp")
    if sorted(axes) != sorted(AXES):
        rule = "must name each of pp, dp, tp once" if spec.cp == 1 else "must name each of pp, dp, cp, tp once"
        problems.add("plan.axes", f"{spec.axes} {rule}", f"e.g. [{', '.join(AXES)}]")
        return None
    # Where each alone would divide the world, pp gives way: it may be any divisor, and tp must fit a node.
    inner = {"tp": spec.tp, "pp": spec.pp} | ({"cp": spec.cp} if spec.cp > 1 else {})
    size = math.prod(inner.values())
    terms = " * ".join(f"{axis}({each})" for axis, each in inner.items())
    if spec.dp == "auto" and world % size:
        for axis in [axis for axis, each in inner.items() if world % each] or ["pp"]:
            legal = [d for d in divisors(world) if world % (d * size // inner[axis]) == 0]
            problems.add(
                f"plan.{axis}",
                f"{terms} = {size} does not divide the topology's {world} devices (remainder {world % size})",
                f"legal neighbour: {axis} {neighbours(inner[axis], legal)}" if legal else "",
            )
        return None
    dp = world // size if spec.dp == "auto" else spec.dp
    if dp * size != world:
        problems.add(
            "plan.dp",
            f"dp({dp}) * {terms} = {dp * size}, but the topology has {world} devices",
            f"dp {world // size} fits" if world % size == 0 else f"{' * '.join(['dp', *inner])} must be {world}",
        )
        return None
    sizes = {"dp": dp, "tp": spec.tp, "pp": spec.pp, "cp": spec.cp}
    return Mesh(tuple(axes), tuple(sizes[axis] for axis in axes)) if _divides_experts(spec, dp, problems) else None


def _shares_vocabulary(spec: PlanSchema, topology: Topology) -> bool:
    """Return whether the vocabulary is cut: as asked for, or else as Megatron does on its devices."""
    usual = spec.sequence_parallel or topology.device(0).backend == "cuda"
    return spec.tp > 1 and (usual if spec.vocab_parallel is None else spec.vocab_parallel is True)


def _check_pipelined_vocabulary(spec: PlanSchema, problems: Problems) -> None:
    """Report with what the ranks of a pipeline cannot share the vocabulary."""
    if spec.vocab_parallel != PIPELINE:
        return
    key = "plan.vocab_parallel"
    if spec.pp == 1:
        problems.add(key, "the ranks of a pipeline share the vocabulary, and pp(1) has one", "set pp to 2 or more")
    sizes = {"tp": spec.tp, "cp": spec.cp}
    for axis in [axis for axis, size in sizes.items() if size > 1]:
        message = f"the vocabulary is shared by the ranks of a pipeline alone, not with {axis}({sizes[axis]})"
        problems.add(key, message, f"set {axis} 1, or leave vocab_parallel out")
    if spec.sharding not in ("none", "zero1"):
        message = f"{spec.sharding} reduces or gathers a stage's parameters at its own time, not with a shared stage's"
        problems.add(key, message, "set sharding: none or zero1, or leave vocab_parallel out")
    if spec.recompute != "none":
        problems.add(key, "what ranks share cannot run forward again", "set recompute: none, or leave it out")


def _check_sequence_parallel(spec: PlanSchema, problems: Problems) -> None:
    if spec.sequence_parallel and spec.tp == 1:
        message = "the ranks of a tensor-parallel group share the sequence, and tp(1) has one"
        problems.add("plan.sequence_parallel", message, "set tp to 2 or more, or leave it out")
    if spec.sequence_parallel and spec.vocab_parallel is False:
        message = "the embedding's sum over the ranks is what shares the sequence out"
        problems.add("plan.sequence_parallel", message, "leave vocab_parallel out, or set sequence_parallel: false")


def _check_expert_tp(spec: PlanSchema, problems: Problems) -> None:
    """Report experts cut otherwise than into tp parts or none, and whole ones whose ranks have the same tokens."""
    if spec.expert_tp not in (None, 1, spec.tp):
        message = f"{spec.expert_tp} is neither 1 nor tp({spec.tp})"
        problems.add("plan.expert_tp", message, "an expert is whole or cut as the rest of the model is: leave it out")
    elif spec.expert_tp == 1 and spec.tp > 1 and not spec.sequence_parallel:
        message = (
            f"1 gives the tp({spec.tp}) ranks other experts, but without sequence_parallel they have the same tokens"
        )
        problems.add("plan.expert_tp", message, "set sequence_parallel: true, or leave expert_tp out")


def _divides_experts(spec: PlanSchema, dp: int, problems: Problems) -> bool:
    """Return whether a dp x cp plane can be cut into groups of ep neighbours, or report why not; and into shards."""
    if spec.dp_shard and (rest := dp % spec.dp_shard):
        hint = f"legal neighbour: dp_shard {neighbours(spec.dp_shard, divisors(dp))}"
        problems.add("plan.dp_shard", f"{spec.dp_shard} does not divide dp({dp}) (remainder {rest})", hint)
    terms = {"dp": dp, "cp": spec.cp} | ({"tp": spec.tp} if (spec.expert_tp or spec.tp) < spec.tp else {})
    plane = math.prod(terms.values())
    if remainder := plane % spec.ep:
        product = f"{' * '.join(f'{axis}({size})' for axis, size in terms.items())} = {plane}"
        hint = f"legal neighbour: ep {neighbours(spec.ep, divisors(plane))}"
        if spec.tp > 1 and "tp" not in terms and not spec.tp * plane % spec.ep:
            hint += ", or expert_tp: 1, which shares experts out over tp too"
        problems.add("plan.ep", f"{spec.ep} does not divide {product} (remainder {remainder})", hint)
    return not remainder


def _check_framework(spec: PlanSchema, problems: Problems) -> None:
    if spec.framework not in FRAMEWORKS:
        close = get_close_matches(spec.framework.lower(), FRAMEWORKS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(FRAMEWORKS)}"
        problems.add("plan.framework", f"{spec.framework!r} is not a framework", hint)


def _check_dtype(spec: PlanSchema, topology: Topology, problems: Problems) -> None:
    if spec.dtype not in DTYPE_BYTES:
        problems.add("plan.dtype", f"{spec.dtype!r} is not a training dtype", f"use {' or '.join(DTYPE_BYTES)}")
        return
    kinds = {device.kind: device for device in {id(each): each for each in topology.devices}.values()}
    for device in kinds.values():
        for needed in NEEDED.get(spec.dtype, (spec.dtype,)):
            if needed in device.peak:
                continue
            beside = f", which {spec.dtype} needs beside it" if needed != spec.dtype else ""
            problems.add(
                "plan.dtype",
                f"device {device.kind} has no peak for {needed}{beside}",
                f"it has {', '.join(device.peak)}; choose one or add the peak to the topology",
            )
