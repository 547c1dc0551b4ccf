"""The three keys of the batch, two of which give the third."""

from __future__ import annotations

from simulator.errors import Problems
from simulator.plan.divisors import divisors, neighbours
from simulator.plan.schema import PlanSchema


def batch_of(spec: PlanSchema, dp: int, problems: Problems) -> tuple[int, int] | None:
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
