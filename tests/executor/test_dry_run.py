"""Ranks of plans of 64 to 1,024 ranks: what the executor does is what the Program says, to the last FLOP and byte."""

from __future__ import annotations

import random

import pytest

from executor.dry_run.__main__ import dry_run
from executor.dry_run.ranks import representatives
from simulator.errors import ExecutionError, InputError
from simulator.load import Inputs, load
from simulator.plan.mesh import Mesh
from tests.model.small import SMALL, changes

GPT = ("model.num_hidden_layers=4", "model.vocab_size=512", "model.sequence_length=16")
FLASH, MATH = "plan.attention=flash", "plan.attention=math"
ZB = "plan.schedule=zb_h1"
SEQUENCE = "plan.sequence_parallel=true"

# name: (family, world size, micro-batches, settings)
PLANS: dict[str, tuple[str, int, int, tuple[str, ...]]] = {
    "dp": ("gpt", 64, 2, ("plan.bucket_size=20 kB",)),
    "tp-pp": ("gpt", 256, 4, ("plan.tp=2", "plan.pp=4", *GPT)),
    "fsdp-vit": ("vit", 128, 2, ("plan.sharding=fsdp",)),
    "zero1-resnet": ("resnet", 64, 1, ("plan.sharding=zero1", "plan.microbatch_size=2")),
    "split-mlp": ("mlp", 64, 8, ("plan.pp=4", ZB)),
    "experts": ("mixtral", 128, 1, ("plan.ep=4",)),
}
"""A plan of each kind that the gate runs; the others take minutes."""

MORE: dict[str, tuple[str, int, int, tuple[str, ...]]] = {
    **{f"zero{n}": ("gpt", 128, 2, (f"plan.sharding=zero{n}", "plan.bucket_size=20 kB")) for n in (1, 2, 3)},
    "zero1-early": ("gpt", 128, 2, ("plan.sharding=zero1", "plan.overlap_param_gather=true")),
    "fsdp-each-stays": (
        "llama",
        1024,
        2,
        ("plan.sharding=fsdp", "plan.gradient_sync=each", "plan.reshard_after_forward=false"),
    ),
    "hsdp": ("gpt", 512, 2, ("plan.sharding=hsdp", "plan.dp_shard=8", "plan.dtype=bf16", "plan.gradient_dtype=fp32")),
    "fsdp-bf16-recompute": ("llama", 1024, 2, ("plan.sharding=fsdp", "plan.dtype=bf16", "plan.recompute=full")),
    "fsdp-tp": ("gpt", 128, 2, ("plan.sharding=fsdp", "plan.tp=4", *GPT)),
    "sequence": ("gpt", 256, 2, ("plan.tp=4", SEQUENCE, *GPT)),
    "sequence-pp-split": ("llama", 256, 8, ("plan.tp=2", "plan.pp=4", SEQUENCE, ZB, *GPT)),
    "sequence-selective": ("gpt", 128, 2, ("plan.tp=2", SEQUENCE, "plan.recompute=selective", MATH, *GPT)),
    "tp-bf16": ("llama", 128, 2, ("plan.tp=2", "plan.dtype=bf16", "plan.gradient_dtype=fp32")),
    "tp-recompute-blocks": ("gpt", 128, 2, ("plan.tp=2", "plan.recompute=full", "plan.recompute_blocks=1")),
    "tp-vit": ("vit", 64, 2, ("plan.tp=2",)),
    "tp-mlp": ("mlp", 64, 2, ("plan.tp=2",)),
    "tp-cnn": ("cnn", 64, 2, ("plan.tp=2",)),
    "cnn-pp": ("cnn", 64, 2, ("plan.pp=2", "plan.recompute=full")),
    "resnet-dp": ("resnet", 64, 1, ("plan.microbatch_size=2", "plan.bucket_size=20 kB")),
    "vit-pp-split": ("vit", 64, 4, ("plan.pp=2", ZB)),
    **{
        f"cp-{mode}-{attention.rpartition('=')[2]}": (
            family,
            128,
            2,
            ("plan.cp=2", f"plan.context_parallel={mode}", attention, "model.sequence_length=16"),
        )
        for family, mode, attention in (
            ("gpt", "all_to_all", FLASH),
            ("gpt", "all_gather", MATH),
            ("llama", "all_gather", FLASH),
            ("deepseek", "all_to_all", MATH),
        )
    },
    "cp-tp": ("llama", 128, 2, ("plan.cp=2", "plan.tp=2", "plan.context_parallel=all_gather", *GPT)),
    "ep-pp": ("mixtral", 256, 2, ("plan.ep=4", "plan.pp=2")),
    "ep-tp-recompute": (
        "mixtral",
        128,
        2,
        ("plan.ep=2", "plan.tp=2", "plan.recompute=full", "plan.vocab_parallel=false"),
    ),
    "ep-split": ("mixtral", 64, 4, ("plan.ep=4", "plan.pp=2", ZB)),
    "ep-latent": ("deepseek", 64, 2, ("plan.ep=4", MATH)),
    "fsdp-moe": ("mixtral", 128, 2, ("plan.sharding=fsdp",)),
    "zero1-ep": ("mixtral", 128, 2, ("plan.sharding=zero1", "plan.ep=4")),
    **{
        f"pp4-{schedule}": ("gpt", 64, 8, ("plan.pp=4", f"plan.schedule={schedule}", "model.num_hidden_layers=8"))
        for schedule in (
            "naive",
            "gpipe",
            "1f1b",
            "interleaved_1f1b",
            "looped_bfs",
            "zb_h1",
            "zb_h2",
            "interleaved_zero_bubble",
            "zbv",
            "dualpipe_v",
            "chimera",
            "hanayo",
            "zb_auto",
        )
    },
    "chimera-tp": ("gpt", 64, 4, ("plan.pp=4", "plan.schedule=chimera", "plan.tp=2", *GPT)),
    "zbv-fsdp": ("gpt", 64, 4, ("plan.pp=2", "plan.schedule=zbv", "plan.sharding=fsdp", "model.num_hidden_layers=4")),
}

OTHERS = {"mlp": ("mlp-tiny", ()), "cnn": ("cnn-tiny", ("model.image_size=12", "model.channels=[4,8]"))}
"""Families beside the small ones."""


def built(family: str, world: int, microbatches: int, settings: tuple[str, ...]) -> Inputs:
    """Return a plan on nodes of 8 H100."""
    preset, sizes = OTHERS.get(family) or (SMALL[family][0], tuple(changes(family)))
    batch = ("plan.global_batch_size=null", "plan.microbatch_size=1", f"plan.num_microbatches={microbatches}")
    return load(preset, "dgx-h100", "single", [f"topology.nodes={world // 8}", *sizes, *batch, *settings])


def check(inputs: Inputs, ranks: tuple[int, ...]) -> None:
    """Assert that ranks do what their Program says, and nothing else, without anything known."""
    for rank in ranks:
        result = dry_run(inputs, rank)
        known = {each.what for each in result.known}
        found = [each for each in result.differences() if each.what not in known]
        assert not found, f"rank {rank}: {found[:3]}"
        assert result.agrees
        assert all(result.found.quantities()["FLOPs"].values())


@pytest.mark.parametrize("name", PLANS)
def test_executor_does_what_the_program_says(name: str) -> None:
    inputs = built(*PLANS[name])
    check(inputs, representatives(inputs.plan.mesh)[-2:])


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_every_scheme_does_what_its_program_says(name: str) -> None:
    inputs = built(*MORE[name])
    check(inputs, representatives(inputs.plan.mesh))


def drawn(seed: int) -> Inputs:
    """Return a legal plan of schemes drawn by chance."""
    chance = random.Random(seed)
    while True:
        family = chance.choice(("gpt", "llama", "vit", "mixtral"))
        settings = [
            f"plan.tp={chance.choice((1, 2, 4))}",
            f"plan.pp={chance.choice((1, 2, 4))}",
            f"plan.schedule={chance.choice(('1f1b', 'gpipe', 'zb_h1', 'zbv', 'interleaved_1f1b'))}",
            f"plan.sharding={chance.choice(('none', 'zero1', 'zero2', 'fsdp'))}",
            f"plan.recompute={chance.choice(('none', 'full', 'selective'))}",
            f"plan.dtype={chance.choice(('fp32', 'bf16'))}",
            f"plan.attention={chance.choice(('flash', 'math'))}",
            f"plan.ep={chance.choice((1, 1, 4)) if family == 'mixtral' else 1}",
            "model.num_hidden_layers=8",
            *GPT[1 if family != "vit" else 3 :],
        ]
        if family in ("gpt", "llama"):
            settings.append(f"plan.sequence_parallel={chance.choice(('true', 'false'))}")
        try:
            inputs = built(family, chance.choice((64, 128, 256, 512, 1024)), 4, tuple(settings))
        except InputError:
            continue
        if not (inputs.plan.sequence_parallel and inputs.plan.reduces_each):
            return inputs


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_drawn_plans_do_what_their_programs_say(seed: int) -> None:
    inputs = drawn(seed)
    try:
        check(inputs, representatives(inputs.plan.mesh)[-2:])
    except ExecutionError as error:
        pytest.fail(f"{inputs.plan}: {error}")


def test_representatives_are_the_corners_of_the_first_the_middle_and_the_last_stage() -> None:
    mesh = Mesh(("pp", "dp", "cp", "tp"), (4, 4, 1, 2))
    assert representatives(mesh) == (0, 7, 16, 23, 24, 31)
    assert representatives(Mesh(("pp", "dp", "tp"), (1, 1, 1))) == (0,)
