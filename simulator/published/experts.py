"""Where the experts of published mixtures lie and how their rows travel: what the recipes behind a table say."""

from __future__ import annotations

import re
from dataclasses import dataclass

from simulator.published.draft import Draft
from simulator.published.frameworks import Framework
from simulator.published.row import Row

RECIPES = "NVIDIA-NeMo/Megatron-Bridge, scripts/performance/configs, *_workload_base_configs.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipes:
    """Some recipes; patterns are found in small letters.

    Parameters
    ----------
    model, hardware, dtype
        Patterns of what they train, where, in what.
    since
        First release, year and month and patch, that has them.
    """

    model: str
    hardware: str = ""
    dtype: str = ""
    since: tuple[int, ...] = (0,)


DISPATCHERS: tuple[Recipes, ...] = (
    Recipes(model="deepseek"),
    Recipes(model="kimi"),
    Recipes(model="qwen3", hardware="gb[23]00", since=(26, 2)),
    Recipes(model="qwen3.?30b", since=(26, 2, 1)),
    Recipes(model="gpt.?oss", hardware="gb[23]00", dtype="fp8", since=(26, 6)),
    Recipes(model="gpt.?oss", hardware=r"\bb300", since=(26, 2, 1)),
)
"""``moe_flex_dispatcher_backend`` is DeepEP or HybridEP. Everything else takes the all-to-all, and so does whatever
drops tokens (``use_tokendrop`` turns DeepEP off)."""

FUSED: tuple[Recipes, ...] = (
    Recipes(model="deepseek|qwen3|gpt.?oss", hardware="gb[23]00", dtype="fp8", since=(26, 6)),
    Recipes(model="gpt.?oss", hardware=r"\bb300", dtype="fp8", since=(26, 6)),
    Recipes(model="deepseek|qwen3", hardware=r"\bb300", dtype="fp8", since=(26, 6, 1)),
    Recipes(model="qwen3.?235b", hardware=r"\bb200", dtype="fp8", since=(26, 6, 1)),
    Recipes(model="kimi", hardware="gb300", dtype="fp8", since=(26, 8)),
)
"""``cutedsl_fused_grouped_mlp``; pull requests 3983, 4226, 4249, 4498, 4606, 5168 and 5356 of Megatron-Bridge say from
which release on."""

GRAPHS: tuple[Recipes, ...] = (
    Recipes(model="deepseek|kimi", hardware="gb[23]00|b300", since=(26, 2)),
    Recipes(model="deepseek", hardware=r"\bb200", dtype="fp8", since=(26, 4, 1)),
    Recipes(model="qwen3", hardware="gb[23]00", since=(26, 2)),
    Recipes(model="qwen3.?30b", hardware="b[23]00", since=(26, 2, 1)),
    Recipes(model="gpt.?oss", hardware="b300", since=(26, 2)),
    Recipes(model="gpt.?oss", hardware="gb200", dtype="fp8", since=(26, 6)),
)
"""``cuda_graph_impl`` is transformer_engine with the scopes attn, moe_router and moe_preprocess, or full_iteration."""

_RELEASE = re.compile(r"release (\d+(?:\.\d+)*)")


def put_experts(plan: Draft, row: Row, framework: Framework) -> None:
    """Set how experts are cut and reached, of rows of recipes that say so."""
    if framework.name != "megatron-core" or not row.count("experts"):
        return
    if int(plan.data.get("tp", 1)) > 1:
        plan.put("expert_tp", 1, f"expert_tensor_parallel_size=1: {RECIPES}")
    if any(_applies(each, row) for each in DISPATCHERS):
        plan.put("expert_dispatch", "deep_ep", f"moe_flex_dispatcher_backend: {RECIPES}")
    if any(_applies(each, row) for each in GRAPHS) or _drops_tokens(row):
        plan.put("cuda_graphs", True, f"cuda_graph_impl: {RECIPES}")
    if any(_applies(each, row) for each in FUSED):
        plan.put("fused_experts", True, f"cutedsl_fused_grouped_mlp: {RECIPES}")


def _applies(recipe: Recipes, row: Row) -> bool:
    cells = (("model", recipe.model), ("hardware", recipe.hardware), ("dtype", recipe.dtype))
    release = _RELEASE.search(row.words("notes"))
    version = tuple(map(int, release[1].split("."))) if release else (99,)
    named = all(re.search(pattern, row.words(column)) for column, pattern in cells)
    return named and version >= recipe.since and not _drops_tokens(row)


def _drops_tokens(row: Row) -> bool:
    """Return whether experts have a capacity: then rows are known beforehand, and recipes record a step as a graph."""
    return "tokendrop" in row.words("notes")
