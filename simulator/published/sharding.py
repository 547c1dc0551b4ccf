"""What data-parallel ranks share out: free text -> the plan's keys."""

from __future__ import annotations

import re

from simulator.published.draft import Draft
from simulator.published.frameworks import Framework
from simulator.published.row import Row

FORMS: tuple[tuple[str, dict[str, object]], ...] = (
    (r"hsdp|hybrid", {"sharding": "hsdp"}),
    (r"shard_grad_op", {"sharding": "fsdp", "reshard_after_forward": False}),
    (r"zero\W*3|stage\W*3|full.?shard|fsdp|fully.?sharded", {"sharding": "fsdp"}),
    (r"zero\W*2|stage\W*2", {"sharding": "zero2"}),
    (r"zero\W*1|stage\W*1|distributed optim|optimizer shard", {"sharding": "zero1"}),
    (r"no.?shard|replicated|\bn(?:one)?\b|\bd?dp\b|data parallel|zero\W*0", {"sharding": "none"}),
)
"""Pattern -> keys; the first that is found counts. SHARD_GRAD_OP gathers parameters once a step (arXiv 2304.11277)."""

IN_A_PIPELINE = "torch pipelines reduce gradients once a step, and torchtitan keeps a pipeline's parameters whole"
"""torch/distributed/pipelining/stage.py: ``set_requires_gradient_sync`` is true in the last backward alone;
torchtitan's parallelize_llama.py: "For PP, do not reshard after forward to avoid per-microbatch all-gathers"."""


def put_sharding(plan: Draft, row: Row, framework: Framework) -> None:
    """Set sharding and what belongs to it."""
    # "none" is an answer here, not an empty cell.
    text = (row.cells.get("zero_stage_or_fsdp") or "").strip().lower()
    origin = f'"{text}"'
    if not text:
        text, origin = framework.text, f'default: not stated, framework "{framework.text}"'
        if not any(re.search(pattern, text) for pattern, _ in FORMS[:-1]):
            plan.put("sharding", "none", "default: not stated")
            return
    keys = next((keys for pattern, keys in FORMS if re.search(pattern, text)), None)
    if keys is None:
        row.problems.add("zero_stage_or_fsdp", f'"{text}" is not understood', "write none, ZeRO-1, FSDP, HSDP, ...")
        return
    for key, value in keys.items():
        plan.put(key, value, origin)
    if keys["sharding"] in ("fsdp", "hsdp"):
        # Gradients of a sharded model would not fit whole: FSDP and ZeRO-3 share them out as they come.
        plan.put("gradient_sync", "each", "FSDP and ZeRO-3 reduce gradients in every micro-batch unless told otherwise")
        if framework.name.startswith("fsdp") and int(plan.data.get("pp", 1)) > 1:
            plan.put("gradient_sync", "last", IN_A_PIPELINE)
            plan.put("reshard_after_forward", False, IN_A_PIPELINE)
    if keys["sharding"] == "hsdp":
        ways = re.search(r"(?:shard|group)\D{0,12}(\d+)", text)
        within = row.count("gpus_per_node") or 8
        plan.put("dp_shard", int(ways[1]) if ways else within, origin if ways else "default: shards within a node")
