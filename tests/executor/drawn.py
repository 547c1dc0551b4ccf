"""Plans drawn at random over all schemes: each has one that it must have, and whatever else comes with it."""

from __future__ import annotations

import random

from simulator.errors import ExecutionError, InputError
from simulator.launch import check_trains
from simulator.load import load
from simulator.program.schedules import SCHEDULES
from tests.model.small import SMALL, changes

WORLDS = {2: 6, 4: 6, 6: 1, 8: 1}
"""Ranks -> how often: on two cores, eight take a minute where four take seconds."""

AXES = ("dp", "tp", "cp", "pp")
ATTEMPTS = 2000
"""Draws until one is a legal plan; about one in ten is."""

EXPERTS = ("mixtral", "deepseek")
MODELS = ("gpt", "gpt", "llama", "vit", *EXPERTS)
PRESETS = {
    "mlp": ("mlp-tiny", ["model.in_features=12", "model.hidden_sizes=[16,16,16,16,16,16,16]", "model.num_classes=5"]),
    "cnn": ("cnn-tiny", ["model.image_size=12", "model.channels=[4,8]", "model.hidden_size=16"]),
}
DEEP = "model.num_hidden_layers=8"
"""Of transformers under pipelines: enough blocks for several stages on each of four ranks."""

OPTIMIZERS = (
    "plan.optimizer={kind: sgd, learning_rate: 0.05}",
    "plan.optimizer={kind: momentum, learning_rate: 0.05}",
    "plan.optimizer={kind: adam, learning_rate: 0.001}",
)
SHARDINGS = tuple(f"plan.sharding={kind}" for kind in ("zero1", "zero2", "zero3", "fsdp", "hsdp"))
CONTEXTS = tuple(f"plan.context_parallel={kind}" for kind in ("ring", "all_to_all", "all_gather"))
RECOMPUTES = tuple(f"plan.recompute={kind}" for kind in ("full", "selective"))
PIPELINES = tuple(f"plan.schedule={name}" for name in SCHEDULES if name != "custom")
SWITCHES = (
    "plan.sequence_parallel=true",
    "plan.vocab_parallel=true",
    "plan.overlap_param_gather=true",
    "plan.reshard_after_forward=false",
    "plan.gradient_sync=each",
    "plan.dp_overlap=false",
    "plan.bucket_size=512 B",
    "plan.attention=flash",
    "plan.p2p_overlap=false",
    "plan.tp_overlap=true",
    "plan.scatter_gather=true",
    "model.dropout=0.25",
)
NEEDS = {
    "plan.schedule": "pp",
    "plan.sharding": "dp",
    "plan.context_parallel": "cp",
    "plan.sequence_parallel": "tp",
    "plan.vocab_parallel": "tp",
    "plan.tp_overlap": "tp",
    "plan.scatter_gather": "tp",
    "plan.ep": "dp",
    "plan.gradient_sync": "dp",
    "plan.overlap_param_gather": "dp",
    "plan.reshard_after_forward": "dp",
}
"""Schemes that do nothing while an axis has one rank."""

THEMES = (*PIPELINES, *SHARDINGS, *CONTEXTS, *RECOMPUTES, *SWITCHES, "plan.ep=2", "plan.dtype=bf16")


def theme(number: int) -> str:
    """Return what a plan must have."""
    return THEMES[number % len(THEMES)]


def draw(number: int) -> tuple[int, str, list[str]]:
    """Return world size, preset and settings of the plan of a number: always the same."""
    drawn = random.Random(number)
    for _ in range(ATTEMPTS):
        world, preset, settings = _attempt(drawn, theme(number))
        try:
            inputs = load(preset, "local-cpu", "single", settings)
            check_trains({"": inputs})
        except (InputError, ExecutionError):
            continue
        needs = NEEDS.get(theme(number).partition("=")[0])
        if not needs or inputs.plan.mesh.size(needs) > 1:
            return world, preset, settings
    raise AssertionError(f"no legal plan with {theme(number)}")


def _attempt(drawn: random.Random, must: str) -> tuple[int, str, list[str]]:
    (world,) = drawn.choices([*WORLDS], [*WORLDS.values()])
    sizes = dict.fromkeys(AXES, 1)
    for prime in {2: (2,), 4: (2, 2), 6: (2, 3), 8: (2, 2, 2)}[world]:
        sizes[drawn.choice(AXES)] *= prime
    model = drawn.choice(EXPERTS) if must == "plan.ep=2" else drawn.choice((*MODELS, *PRESETS))
    if model in PRESETS:
        preset, settings = PRESETS[model]
    else:
        preset, settings = SMALL[model][0], changes(model)
        settings = [*settings, DEEP] if sizes["pp"] > 1 and model in ("gpt", "llama") else settings
    # Next to no gradient, of which a deep model has many, Adam divides rounding by rounding.
    optimizers = OPTIMIZERS[:2] if DEEP in settings else OPTIMIZERS
    further = [
        f"topology.node.count={world}",
        *(f"plan.{axis}={size}" for axis, size in sizes.items()),
        f"plan.global_batch_size={24 if world == 6 else 16}",
        "plan.num_microbatches=null",
        f"plan.microbatch_size={drawn.choice((1, 2, 4))}",
        drawn.choice(optimizers),
        *_options(drawn, sizes, must),
    ]
    return world, preset, [*settings, *further]


def _options(drawn: random.Random, sizes: dict[str, int], must: str) -> list[str]:
    """Return the scheme that a plan must have, and some of those that its axes allow."""
    options = dict([must.split("=", 1)])
    choices = [PIPELINES] * (sizes["pp"] > 1) + [SHARDINGS] * (sizes["dp"] > 1) + [CONTEXTS] * (sizes["cp"] > 1)
    for choice in choices:
        if drawn.random() < 0.7:
            options.setdefault(*drawn.choice(choice).split("=", 1))
    for switch in (drawn.choice(RECOMPUTES), *SWITCHES):
        if drawn.random() < 0.15:
            options.setdefault(*switch.split("=", 1))
    if options.get("plan.sharding") == "hsdp":
        options["plan.dp_shard"] = "2"
    return [f"{key}={value}" for key, value in options.items()]
