"""Ranks of plans of 64 to 1,024 ranks: what the executor does is what the Program says, to the last FLOP and byte."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from executor.dry_run.__main__ import dry_run
from executor.dry_run.account import Account
from executor.dry_run.compare import compare
from executor.dry_run.expected import expected
from executor.dry_run.observed import observed
from executor.dry_run.ranks import representatives
from executor.runtime import Runtime
from simulator.errors import ExecutionError, InputError
from simulator.load import Inputs, load
from simulator.model.layers import Activation, Qkv
from simulator.plan.mesh import Mesh
from simulator.program.instructions import COLLECTIVE_AXIS, STREAMS_OF_GROUPS, Instruction, Kind, Stream
from simulator.program.program import Program
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


TP_PP = ("gpt", 64, 2, ("plan.tp=2", "plan.pp=2", "plan.vocab_parallel=false"))


def told(inputs: Inputs, found: Account, program: Program | None = None) -> set[tuple[str, str]]:
    """Return where (kind of instruction) and in what an account differs from a Program."""
    result = compare(inputs, expected(program or inputs.program, found.rank), found)
    assert not result.agrees
    assert not result.to_json()["agrees"]
    return {(each.instruction.kind if each.instruction else "", each.what) for each in result.differences()}


@pytest.fixture(scope="module")
def seen() -> tuple[Inputs, Account]:
    """What the executor does for a plan."""
    inputs = built(*TP_PP)
    return inputs, observed(inputs, 0)


def test_a_lost_collective_is_found(seen: tuple[Inputs, Account]) -> None:
    inputs, _ = seen
    lists = tuple(tuple(each for each in order if each.kind is not Kind.BARRIER) for order in inputs.program.lists)
    found = observed(replace(inputs, program=replace(inputs.program, lists=lists)), 0)
    assert told(inputs, found) == {("BARRIER", "messages")}


def test_a_doubled_size_is_found(seen: tuple[Inputs, Account], monkeypatch: pytest.MonkeyPatch) -> None:
    true = Program.message

    def doubled(self: Program, instruction: Instruction) -> object:
        message = true(self, instruction)
        return replace(message, size=2 * message.size) if instruction.kind is Kind.REDUCE_GRAD else message

    monkeypatch.setattr(Program, "message", doubled)
    assert told(*seen) == {("REDUCE_GRAD", "messages")}


def test_a_wrong_axis_is_found(seen: tuple[Inputs, Account], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLLECTIVE_AXIS, Kind.REDUCE_GRAD, "tp")
    assert told(*seen) == {("REDUCE_GRAD", "messages")}


def test_an_executor_that_sums_over_the_wrong_ranks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STREAMS_OF_GROUPS, Stream.TP, "dp_shard")
    inputs = built(*TP_PP)
    assert told(inputs, observed(inputs, 0)) == {("TP_F", "messages"), ("TP_B", "messages")}


def test_a_wrong_peer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = built(*TP_PP)
    true = Runtime.peer
    monkeypatch.setattr(Runtime, "peer", lambda self, instruction: true(self, instruction) + 1)
    # Rank 33 is in another pipeline: the group of rank 0's has no such rank.
    with pytest.raises(ValueError, match="33"):
        observed(inputs, 0)


def test_a_kernel_that_is_left_out_is_found(seen: tuple[Inputs, Account], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Qkv, "kernels", lambda *_: ())
    assert told(*seen) == {("F", "FLOPs"), ("B", "FLOPs")}


def test_an_activation_that_is_left_out_is_found(seen: tuple[Inputs, Account], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Activation, "saves_input", False)
    inputs, found = seen
    fresh = replace(inputs.program, passes=inputs.program.passes)
    assert {what for _, what in told(inputs, found, fresh)} == {"activations"}


def test_a_part_that_updates_the_whole_is_found() -> None:
    inputs = built("gpt", 64, 1, ("plan.sharding=zero1",))
    found = observed(inputs, 0)
    alone = built("gpt", 64, 1, ("plan.sharding=none",)).program
    result = compare(inputs, expected(alone, 0), found)
    assert ("", "optimizer state") in {
        (str(each.instruction or ""), each.what) for each in result.differences() if not result.reason(each)
    }
