"""A validated plan file becomes a Plan: what was left open is inferred, what contradicts is reported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from simulator.errors import Problems
from simulator.plan.frameworks import FRAMEWORKS
from simulator.plan.mesh import AXES, Mesh
from simulator.plan.plan import DTYPE_BYTES, NEEDED, Optimizer, Plan
from simulator.plan.schema import PlanSchema
from simulator.plan.sharding import check_sharding, sharding_of
from simulator.topology import Topology


class ScheduleRules(Protocol):
    """What resolving a plan must know of a schedule."""

    @property
    def usual_stages_per_rank(self) -> int:
        """Virtual stages of a rank when the plan names none."""

    @property
    def limits_activations(self) -> bool:
        """Whether it can be told how many micro-batches a rank may hold."""

    def check(self, num_ranks: int, num_microbatches: int, num_stages_per_rank: int) -> tuple[str, str] | None:
        """Return what is not allowed and a way out, or None."""


def divisors(number: int) -> list[int]:
    """Return the divisors of a positive number, ascending."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def neighbours(wanted: int, legal: Iterable[int]) -> str:
    """Return the legal values next below and above ``wanted`` as text."""
    legal = sorted(set(legal))
    near = [max((v for v in legal if v < wanted), default=None), min((v for v in legal if v > wanted), default=None)]
    return " or ".join(str(value) for value in near if value is not None)


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
    if spec.recompute_blocks and spec.recompute == "none":
        message = "chooses among blocks that recompute, and recompute is none"
        problems.add("plan.recompute_blocks", message, "set recompute: full or selective, or leave it out")
    _check_framework(spec, problems)
    batch = _batch(spec, mesh.size("dp"), problems) if mesh else None
    text = _schedule_text(spec, problems)
    check_sharding(spec, problems)
    stages = _stages_per_rank(spec, schedules, batch[1] if batch else spec.num_microbatches, problems)
    if mesh is None or batch is None or len(problems) > before:
        return None
    return Plan(
        name=spec.name,
        mesh=mesh,
        schedule=spec.schedule,
        microbatch_size=batch[0],
        num_microbatches=batch[1],
        dtype=spec.dtype,
        optimizer=Optimizer(
            kind=spec.optimizer.kind, learning_rate=spec.optimizer.learning_rate, momentum=spec.optimizer.momentum
        ),
        dp_overlap=spec.dp_overlap,
        bucket_size=spec.bucket_size,
        p2p_overlap=spec.p2p_overlap,
        optimizer_barrier=spec.optimizer_barrier,
        num_stages_per_rank=stages,
        ep=spec.ep,
        context_parallel=spec.context_parallel,
        activation_limit=spec.activation_limit,
        schedule_file=spec.schedule_file or "",
        schedule_text=text,
        attention=spec.attention or "",
        vocab_parallel=_shares_vocabulary(spec, topology),
        sequence_parallel=spec.sequence_parallel,
        recompute=spec.recompute,
        recompute_blocks=spec.recompute_blocks,
        **sharding_of(spec),
        stages=spec.stages if isinstance(spec.stages, str) else tuple(spec.stages),
        framework=spec.framework,
        flash_kernel=spec.flash_kernel,
        dataset_size=spec.dataset_size or 0,
        epochs=spec.epochs,
    )


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
    return spec.tp > 1 and (usual if spec.vocab_parallel is None else spec.vocab_parallel)


def _check_sequence_parallel(spec: PlanSchema, problems: Problems) -> None:
    if spec.sequence_parallel and spec.tp == 1:
        message = "the ranks of a tensor-parallel group share the sequence, and tp(1) has one"
        problems.add("plan.sequence_parallel", message, "set tp to 2 or more, or leave it out")
    if spec.sequence_parallel and spec.vocab_parallel is False:
        message = "the embedding's sum over the ranks is what shares the sequence out"
        problems.add("plan.sequence_parallel", message, "leave vocab_parallel out, or set sequence_parallel: false")


def _divides_experts(spec: PlanSchema, dp: int, problems: Problems) -> bool:
    """Return whether a dp x cp plane can be cut into groups of ep neighbours, or report why not; and into shards."""
    replicas = dp * spec.cp
    if spec.dp_shard and (rest := dp % spec.dp_shard):
        hint = f"legal neighbour: dp_shard {neighbours(spec.dp_shard, divisors(dp))}"
        problems.add("plan.dp_shard", f"{spec.dp_shard} does not divide dp({dp}) (remainder {rest})", hint)
    if remainder := replicas % spec.ep:
        product = f"dp({dp}) * cp({spec.cp}) = {replicas}"
        hint = f"legal neighbour: ep {neighbours(spec.ep, divisors(replicas))}"
        problems.add("plan.ep", f"{spec.ep} does not divide {product} (remainder {remainder})", hint)
    return not remainder


def _stages_per_rank(
    spec: PlanSchema, schedules: Mapping[str, ScheduleRules], num_microbatches: int | None, problems: Problems
) -> int:
    """Return the virtual stages of a rank, after reporting what the schedule does not allow."""
    rules = schedules.get(spec.schedule)
    if rules is None:
        close = get_close_matches(spec.schedule.lower(), schedules, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(schedules)}"
        problems.add("plan.schedule", f"{spec.schedule!r} is not a schedule", hint)
        return 1
    if spec.activation_limit is not None and not rules.limits_activations:
        message = f"is not read by schedule {spec.schedule}"
        problems.add("plan.activation_limit", message, "leave it out, or set schedule: zb_auto")
    number = spec.num_stages_per_rank or rules.usual_stages_per_rank
    broken = rules.check(spec.pp, num_microbatches, number) if num_microbatches else None
    if broken:
        key = "num_stages_per_rank" if spec.num_stages_per_rank else "schedule"
        problems.add(f"plan.{key}", broken[0], broken[1])
    return number


def _schedule_text(spec: PlanSchema, problems: Problems) -> str:
    """Return the content of the file that the schedule ``custom`` reads."""
    if (spec.schedule == "custom") != (spec.schedule_file is not None):
        problems.add(
            "plan.schedule_file",
            "is missing for schedule custom"
            if spec.schedule_file is None
            else f"is not read by schedule {spec.schedule}",
            "give the file" if spec.schedule_file is None else "set schedule: custom",
        )
        return ""
    if spec.schedule_file is None:
        return ""
    try:
        return Path(spec.schedule_file).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = "a plan file names it from its own folder, --set from the working directory"
        problems.add("plan.schedule_file", f"{spec.schedule_file} cannot be read: {reason.lower()}", hint)
        return ""


def _check_framework(spec: PlanSchema, problems: Problems) -> None:
    if spec.framework not in FRAMEWORKS:
        close = get_close_matches(spec.framework.lower(), FRAMEWORKS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(FRAMEWORKS)}"
        problems.add("plan.framework", f"{spec.framework!r} is not a framework", hint)


def _check_dtype(spec: PlanSchema, topology: Topology, problems: Problems) -> None:
    if spec.dtype not in DTYPE_BYTES:
        problems.add("plan.dtype", f"{spec.dtype!r} is not a training dtype", f"use {' or '.join(DTYPE_BYTES)}")
        return
    kinds = {device.kind: device for device in map(topology.device, range(topology.world_size))}
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


def _batch(spec: PlanSchema, dp: int, problems: Problems) -> tuple[int, int] | None:
    """Return (microbatch_size, num_microbatches) from any two of the three batch keys."""
    size, number, total = spec.microbatch_size, spec.num_microbatches, spec.global_batch_size
    if total is None:
        if size is None and number is None:
            hint = "give two of microbatch_size, num_microbatches, global_batch_size"
            problems.add("plan.microbatch_size", "is missing", hint)
            return None
        return size or 1, number or 1
    if total % dp:
        problems.add(
            "plan.global_batch_size",
            f"dp({dp}) does not divide {total} (remainder {total % dp})",
            f"nearest: {' or '.join(str(v) for v in (total // dp * dp, total // dp * dp + dp) if v)}",
        )
        return None
    share = total // dp
    if size is None and number is None:
        size = 1
    known, key = (size, "microbatch_size") if size is not None else (number, "num_microbatches")
    assert known is not None
    if share % known:
        problems.add(
            f"plan.{key}",
            f"{known} does not divide global_batch_size({total}) / dp({dp}) = {share} (remainder {share % known})",
            f"legal neighbour: {neighbours(known, divisors(share))}",
        )
        return None
    result = (known, share // known) if key == "microbatch_size" else (share // known, known)
    if size is not None and number is not None and result[1] != number:
        problems.add(
            "plan.num_microbatches",
            f"microbatch_size({size}) * num_microbatches({number}) * dp({dp}) = {size * number * dp}, "
            f"but global_batch_size is {total}",
            f"num_microbatches {result[1]} fits, or leave it out",
        )
        return None
    return result
