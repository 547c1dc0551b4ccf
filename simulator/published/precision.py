"""Training precision: free text -> the plan's dtype."""

from __future__ import annotations

import re

from simulator.published.draft import STATED, Draft
from simulator.published.row import Row

DTYPES = (
    (r"fp4|float4", "fp4"),
    (r"fp8|float8|e4m3|e5m2|transformer engine 8", "fp8"),
    (r"bf16|bfloat16", "bf16"),
    (r"fp16|float16|half|\bamp\b|mixed", "fp16"),
    (r"tf32", "tf32"),
    (r"fp32|float32|single", "fp32"),
)
"""Pattern -> dtype; the first that is found counts, so "fp8 linear + bf16" is fp8, whose other layers are bf16."""


def put_dtype(plan: Draft, row: Row) -> None:
    """Set the plan's dtype."""
    text = row.text("dtype").lower()
    if not text:
        plan.put("dtype", "bf16", "default: the precision is not stated")
        return
    if re.search(r"fp16\W*(?:/|or)\W*bf16|bf16\W*(?:/|or)\W*fp16", text):
        plan.put("dtype", "bf16", f'default: "{text}"; tensor cores run both at one rate')
        return
    found = next((dtype for pattern, dtype in DTYPES if re.search(pattern, text)), None)
    if found is None:
        row.problems.add("dtype", f'"{text}" is not understood', "write fp32, tf32, fp16, bf16, fp8 or fp4")
        return
    plan.put("dtype", found, STATED if text == found else f'"{text}"')
