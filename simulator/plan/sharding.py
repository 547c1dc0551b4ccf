"""What the keys of a plan say about sharding, and what contradicts itself."""

from __future__ import annotations

from typing import Any

from simulator.errors import Problems
from simulator.plan.schema import PlanSchema

GATHERED = ("fsdp", "hsdp")
"""Schemes that gather parameters before they are read."""

SUMMED = ("zero1", "zero2")
"""Schemes that keep parameters whole and gather them after an update."""


def sharding_of(spec: PlanSchema) -> dict[str, Any]:
    """Return what the plan knows of sharding."""
    return {
        "sharding": _scheme(spec),
        "dp_shard": spec.dp_shard or 0,
        "prefetch": spec.prefetch,
        "reshard_after_forward": spec.reshard_after_forward,
        "overlap_param_gather": spec.overlap_param_gather,
        "gradient_dtype": spec.gradient_dtype,
        "gradient_sync": spec.gradient_sync or ("each" if _scheme(spec) == "zero2" else "last"),
    }


def _scheme(spec: PlanSchema) -> str:
    """Return the scheme under its one name."""
    return "fsdp" if spec.sharding == "zero3" else spec.sharding


def check_sharding(spec: PlanSchema, problems: Problems) -> None:
    """Report keys that a scheme does not read, or that contradict it."""
    scheme = _scheme(spec)
    read = (
        ("dp_shard", spec.dp_shard is not None, ("hsdp",)),
        ("prefetch", spec.prefetch != 1, GATHERED),
        ("reshard_after_forward", not spec.reshard_after_forward, GATHERED),
        ("overlap_param_gather", spec.overlap_param_gather, SUMMED),
        ("gradient_sync", spec.gradient_sync == "each", ("zero2", *GATHERED)),
    )
    for key, given, schemes in read:
        if given and scheme not in schemes:
            message = f"is not read by sharding {spec.sharding}"
            problems.add(f"plan.{key}", message, f"leave it out, or set sharding: {' or '.join(schemes)}")
    if scheme == "zero2" and spec.gradient_sync == "last":
        message = "zero2 keeps a part of each gradient alone, so that micro-batches have nothing to accumulate in"
        problems.add("plan.gradient_sync", message, "leave it out, or set sharding: zero1")
