"""Layout, batch and options of a row -> a plan."""

from __future__ import annotations

import re
from typing import Any

from simulator.plan.schema import PlanSchema
from simulator.published.draft import REFINES, STATED, Draft
from simulator.published.experts import put_experts
from simulator.published.frameworks import Framework, framework_of
from simulator.published.precision import put_dtype
from simulator.published.row import Row
from simulator.published.schedules import put_schedule, put_stages
from simulator.published.sharding import put_sharding

ABSENT: dict[str, Any] = {
    "cp": 1,
    "ep": 1,
    "sequence_parallel": False,
    "reshard_after_forward": True,
    "recompute_blocks": None,
    "context_parallel": REFINES,
    "gradient_dtype": REFINES,
    "gradient_sync": REFINES,
    "prefetch": REFINES,
}
"""How a version behaves that lacks a key."""

LARGEST_SHARE = 8
"""Samples of a micro-batch at most, where none is stated and the model is not cut into a pipeline."""

RECOMPUTE: tuple[tuple[str, dict[str, object]], ...] = (
    (r"every other|half|alternate", {"recompute": "full", "every": 2}),
    (r"\(op\)|per.?op|op.?level", {"recompute": "full", "every": 2}),
    (r"selective|core.?attn|attention only", {"recompute": "selective"}),
    (r"full|\byes\b|^y$|true|checkpoint|activation recomp|block|uniform", {"recompute": "full"}),
    (r"none|\bno\b|^n$|false|off|without", {"recompute": "none"}),
)
"""Pattern -> keys; the first that is found counts. torchtitan's selective (op) keeps every other matrix product and
attention, so it runs half of the forward products again, as full recomputation of every other block does."""


def put_plan(plan: Draft, row: Row, layers: int | None) -> int | None:
    """Describe the plan; return the number of GPUs, None where it is not known."""
    framework = framework_of(row)
    plan.put("name", "published", "default")
    for key, value in framework.settings.items():
        plan.put(key, value, f"default of {framework.name}")
    plan.put("framework", framework.name, f'"{framework.text}"')
    if framework.source:
        plan.remarks.append(f"framework {framework.name}: {framework.source}")
    gpus = _put_mesh(plan, row, framework)
    put_schedule(plan, row, int(plan.data.get("pp", 1)))
    put_stages(plan, layers, int(plan.data.get("pp", 1)))
    put_dtype(plan, row)
    put_sharding(plan, row, framework)
    put_experts(plan, row, framework)
    _put_precision_of_sums(plan, row, framework)
    _put_batch(plan, row, framework)
    _put_recompute(plan, row, framework, layers)
    plan.put("optimizer", {"kind": "adam"}, "default")
    plan.keep(PlanSchema, "plan", ABSENT, row.problems)
    return gpus


def _put_mesh(plan: Draft, row: Row, framework: Framework) -> int | None:
    sizes = {}
    for axis in ("tp", "pp", "cp", "ep"):
        stated = row.count(axis)
        sizes[axis] = stated or 1
        plan.put(axis, sizes[axis], STATED if stated else "default: not stated")
    inner = sizes["tp"] * sizes["pp"] * sizes["cp"]
    words = f"tp({sizes['tp']}) x pp({sizes['pp']}) x cp({sizes['cp']})"
    gpus, dp = row.count("gpus"), row.count("dp")
    if gpus is None and dp is None:
        row.problems.add("gpus", "neither gpus nor dp is stated")
        return None
    gpus = gpus or (dp or 1) * inner
    if gpus % inner:
        row.problems.add("gpus", f"{gpus} GPUs are not a multiple of {words} = {inner}")
    elif dp and dp * inner != gpus:
        row.problems.add("dp", f"dp({dp}) x {words} = {dp * inner} is not gpus({gpus})")
    plan.put("dp", gpus // inner or 1, STATED if dp else f"{gpus} GPUs / {inner}")
    given = row.text("sp").lower()
    spread = sizes["tp"] > 1 and (given[:1] in ("y", "t", "1") if given else framework.sequence_parallel)
    plan.put("sequence_parallel", spread, STATED if given else f"default of {framework.name}")
    if spread and plan.data.get("scatter_gather"):
        plan.put("scatter_gather", False, "each rank has a part of the sequence already")
    return gpus


def _put_precision_of_sums(plan: Draft, row: Row, framework: Framework) -> None:
    """Put the dtype of gradients where it is not that of the framework.

    Composer's mixed precision PURE also sums gradients in the low precision; DEFAULT sums them in fp32. Megatron-LM's
    arguments.py turns sums in fp32 on with --bf16 alone.
    """
    if framework.name in ("megatron", "megatron-2023") and plan.data.get("dtype") == "fp16":
        plan.put("gradient_dtype", "same", "--fp16 does not turn on --accumulate-allreduce-grads-in-fp32")
    mode = re.search(r"mp mode ?[=:] ?(\w+)", row.words("notes"))
    if mode:
        low = mode[1] == "pure"
        plan.put("gradient_dtype", plan.data.get("dtype", "bf16") if low else "fp32", f'"{mode[0]}"')
    if plan.data.get("gradient_dtype") in ("fp8", "fp4"):
        plan.put("gradient_dtype", "bf16", f"gradients of {plan.data['gradient_dtype']} layers are bf16")


def _put_batch(plan: Draft, row: Row, framework: Framework) -> None:
    size, whole = row.count("micro_batch"), row.count("global_batch")
    replicas = int(plan.data.get("dp", 1))
    if whole is None and size is None:
        row.problems.add("global_batch", "neither global_batch nor micro_batch is stated")
        return
    if whole is None:
        plan.put("num_microbatches", 1, "default: no global batch is stated, so nothing is accumulated")
    else:
        plan.put("global_batch_size", whole)
    if size is None and whole is not None:
        plan.put("microbatch_size", *_share(plan, whole // replicas or 1, framework))
    elif size is not None:
        plan.put("microbatch_size", size)


def _share(plan: Draft, share: int, framework: Framework) -> tuple[int, str]:
    """Return the samples of a micro-batch out of a replica's share, and why so many."""
    ranks = int(plan.data.get("pp", 1))
    stages = ranks * int(plan.data.get("num_stages_per_rank", 1))
    if framework.cuts_by_stages and ranks > 1 and share % stages == 0:
        return share // stages, f"default of {framework.name}: as many micro-batches as stages, {stages}"
    limit = 1 if ranks > 1 else LARGEST_SHARE
    size = next(number for number in range(min(limit, share), 0, -1) if share % number == 0)
    return size, f"default: not stated; a pipeline takes 1, others at most {LARGEST_SHARE}"


def _put_recompute(plan: Draft, row: Row, framework: Framework, layers: int | None) -> None:
    text = (row.cells.get("recompute") or "").strip().lower()
    least = framework.recomputes_from
    if not text and least and row.text("arch") == "gpt" and (layers or 0) >= least:
        plan.put("recompute", "full", f"default of {framework.text} for {least} layers and more")
        return
    if not text:
        plan.put("recompute", "none", "default: not stated")
        return
    keys = dict(next((keys for pattern, keys in RECOMPUTE if re.search(pattern, text)), {}))
    if not keys:
        row.problems.add("recompute", f'"{text}" is not understood', "write none, selective or full")
        return
    every = keys.pop("every", None)
    plan.put("recompute", keys["recompute"], f'"{text}"')
    if every:
        stages = int(plan.data.get("pp", 1)) * int(plan.data.get("num_stages_per_rank", 1))
        plan.put("recompute_blocks", max(1, (layers or 2) // stages // 2), f'"{text}": every other block')
