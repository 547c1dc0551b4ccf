"""What each lowering pass does to a program, and that the program is sound after every one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulator.errors import InputError, ProgramError
from simulator.load import load
from simulator.program import Instruction, Kind, Program, verify
from simulator.program.compile import PASSES
from simulator.program.dependencies import dependencies
from simulator.program.instructions import BACKWARD, PARAMETER_GATHERS, SUMS
from simulator.program.schedules import SCHEDULES, Options
from simulator.program.sharding import GATHERS

FORMS = [
    ("gpt-tiny", "pp=2", "tp=2", "bucket_size=1 MiB"),
    ("gpt-tiny", "pp=2", "tp=2", "recompute=full"),
    ("gpt-tiny", "pp=4", "schedule=zb_h1", "recompute=full"),
    ("gpt-tiny", "pp=2", "schedule=zbv", "tp=2", "recompute=full"),
    ("cnn-tiny", "tp=4", "recompute=full", "dp_overlap=false"),
    ("mlp-tiny", "pp=2", "schedule=interleaved_1f1b", "recompute=full"),
    ("gpt-tiny", "pp=4", "schedule=chimera", "recompute=full"),
    ("gpt-tiny", "pp=2", "tp=2", "recompute=selective", "attention=math"),
    ("gpt-tiny", "pp=2", "schedule=zb_h1", "recompute=selective", "recompute_blocks=1"),
    ("gpt-tiny", "pp=2", "sharding=fsdp", "recompute=selective"),
    ("gpt-tiny", "tp=2", "recompute=full", "recompute_blocks=2"),
    ("gpt-tiny", "tp=2", "pp=2", "sequence_parallel=true"),
    ("gpt-tiny", "tp=2", "tp_overlap=true", "sequence_parallel=true", "recompute=selective"),
    ("gpt-tiny", "tp=2", "tp_overlap=true", "sharding=fsdp"),
    ("gpt-tiny", "tp=2", "pp=2", "tp_overlap=true", "scatter_gather=true", "recompute=full"),
    ("gpt-tiny", "tp=2", "schedule=zb_h1", "pp=2", "sequence_parallel=true", "recompute=selective"),
    ("gpt-tiny", "tp=4", "sequence_parallel=true", "recompute=full", "recompute_blocks=1"),
    ("gpt-tiny", "tp=2", "sequence_parallel=true", "sharding=fsdp"),
    ("gpt-tiny", "tp=2", "sharding=fsdp"),
    ("gpt-tiny", "pp=2", "schedule=zbv", "sharding=fsdp", "recompute=full"),
    ("mlp-tiny", "pp=2", "schedule=zb_h1", "sharding=fsdp", "dp_overlap=false"),
    ("gpt-tiny", "sharding=fsdp", "reshard_after_forward=false", "gradient_sync=each"),
    ("gpt-tiny", "pp=2", "schedule=zbv", "sharding=fsdp", "reshard_after_forward=false"),
    ("gpt-tiny", "sharding=hsdp", "dp_shard=2"),
    ("gpt-tiny", "pp=2", "schedule=zb_h1", "offload=optimizer"),
    ("gpt-tiny", "offload=optimizer", "sharding=zero2"),
    ("gpt-tiny", "offload=optimizer", "sharding=zero1", "overlap_param_gather=true"),
    ("gpt-tiny", "offload=optimizer", "sharding=hsdp", "dp_shard=2", "gradient_sync=each"),
    ("mlp-tiny", "sharding=hsdp", "dp_shard=4", "gradient_sync=each"),
    ("gpt-tiny", "pp=2", "tp=2", "bucket_size=1 MiB", "sharding=zero1"),
    ("gpt-tiny", "pp=2", "schedule=zb_h1", "sharding=zero1", "overlap_param_gather=true"),
    ("gpt-tiny", "pp=2", "schedule=zb_h1", "sharding=zero2", "bucket_size=1 MiB"),
]


def text(instructions: Any) -> str:
    return " ".join(map(str, instructions))


def raw(program: Program) -> Program:
    """Return a compiled program as it was before the first pass."""
    plan = program.plan
    options = Options(num_stages_per_rank=plan.num_stages_per_rank)
    schedule = SCHEDULES[plan.schedule].build(plan.pp, plan.num_microbatches, options)
    return replace(program, lists=schedule.orders, passes=frozenset())


def refusal(program: Program) -> str:
    with pytest.raises(ProgramError) as raised:
        verify(program)
    return str(raised.value).splitlines()[0]


@pytest.mark.parametrize("form", FORMS)
def test_the_program_is_sound_after_each_pass(program: Any, form: tuple[str, ...]) -> None:
    compiled = program(*form)
    step = raw(compiled)
    verify(step)
    for lower in PASSES:
        step = lower(step)
        verify(step)
    assert step == compiled


@pytest.mark.parametrize("form", FORMS)
def test_what_a_pass_brings_in_is_missed_right_after_it(program: Any, form: tuple[str, ...]) -> None:
    step = raw(program(*form))
    for lower in PASSES:
        before = {kind for instructions in step.lists for kind, *_ in instructions}
        step = lower(step)
        new = {each.kind: (rank, each) for rank, order in enumerate(step.lists) for each in order}
        for kind, (rank, each) in new.items():
            if kind in before:
                continue
            rest = tuple(other for other in step.lists[rank] if other != each)
            damaged = replace(step, lists=(*step.lists[:rank], rest, *step.lists[rank + 1 :]))
            assert refusal(damaged).startswith(f"pipeline rank {rank}, ")
            assert refusal(damaged).endswith(f": {each} is missing")


def test_a_block_runs_forward_again_before_its_backward(program: Any) -> None:
    (only,) = program("gpt-tiny", "num_microbatches=1", "recompute=full", devices=1).lists
    # The embedding keeps token ids only, and backward of the head follows at once.
    assert text(only) == (
        "0F0.0 0F0.1 0F0.2 0F0.3 0F0.4 0F0.5 0B0.5 0R0.4 0B0.4 0R0.3 0B0.3 0R0.2 0B0.2 0R0.1 0B0.1 0B0.0 0OPTIM"
    )


def test_only_sums_that_are_read_again_are_made_again(program: Any) -> None:
    (biased,) = program("mlp-tiny", "num_microbatches=1", "tp=2", "recompute=full", devices=2).lists
    assert "0R0.4 0TP_R0.5 0R0.6 0B0.6 0B0.4 0TP_B0.3" in text(biased)
    linear = "{kind: linear, out_features: 8, bias: false}"
    layers = f"[{linear}, {{kind: activation, function: relu}}, {linear}, {linear}]"
    changes = ["plan.tp=2", "plan.recompute=full", "topology.node.count=2", f"model.layers={layers}", "model.loss=mse"]
    (bare,) = load("residual-list", "pcie-box", "single", [*changes, "model.input={shape: [8]}"]).program.lists
    assert text(bare).startswith("0F0.0 0TP_F0.1 0F0.2 0B0.2 0R0.0 0B0.0")


def test_recomputation_out_of_its_place_is_found(program: Any) -> None:
    compiled = program("gpt-tiny", "num_microbatches=1", "tp=2", "recompute=full", devices=2)
    (order,) = compiled.lists
    for position, each in enumerate(order):
        if each.kind not in (Kind.R, Kind.TP_R):
            continue
        others = (*order[:position], *order[position + 1 :])
        early = replace(compiled, lists=((each, *others),))
        late = replace(compiled, lists=((*others[:-1], each, others[-1]),))
        assert refusal(early).endswith("which it needs")
        assert f": {each} comes before" in refusal(early)
        assert f"comes before {each}, which it needs" in refusal(late)


@pytest.mark.parametrize("form", FORMS)
def test_backwards_are_those_without_recomputation(program: Any, form: tuple[str, ...]) -> None:
    again = program(*form)
    once = program(*form, "recompute=none", "recompute_blocks=null")
    for ours, theirs in zip(again.lists, once.lists, strict=True):
        actions = [
            list(dict.fromkeys((each.kind, each.stage, each.microbatch) for each in order if each.kind in BACKWARD))
            for order in (ours, theirs)
        ]
        assert actions[0] == actions[1]


SHARDED = [form for form in FORMS if {"sharding=fsdp", "sharding=hsdp"} & {*form}]
ONE_AHEAD = [form for form in SHARDED if "reshard_after_forward=false" not in form]


def test_parameters_are_gathered_one_block_ahead() -> None:
    changes = ["model.hidden_sizes=[8]", "topology.node.count=2", "plan.dp=2", "plan.sharding=fsdp"]
    (only,) = load("mlp-tiny", "pcie-box", "single", changes).program.lists
    # The head is read by 0F and 0B at once; then the first block is, by 0B and the next micro-batch's 0F.
    assert text(only) == (
        "0UNSHARD0.1 0UNSHARD0.0 0F0.0 0RESHARD0.1 0UNSHARD1.1 0F0.1 0B0.1 0RESHARD0.0 0UNSHARD1.0 0B0.0 0F1.0 "
        "0RESHARD1.1 0UNSHARD2.1 0F1.1 0B1.1 0REDUCE_GRAD.0 0RESHARD1.0 0B1.0 0REDUCE_GRAD.1 0RESHARD2.1 0OPTIM"
    )


@pytest.mark.parametrize("prefetch", [1, 2, 3])
@pytest.mark.parametrize("form", ONE_AHEAD)
def test_one_block_is_whole_beside_those_that_are_gathered_ahead(
    program: Any, form: tuple[str, ...], prefetch: int
) -> None:
    for order in program(*form, f"prefetch={prefetch}").lists:
        whole: set[tuple[int, int]] = set()
        most = 0
        for each in order:
            if each.kind is Kind.UNSHARD:
                whole.add((each.stage, each.part))
            elif each.kind is Kind.RESHARD:
                whole.remove((each.stage, each.part))
            most = max(most, len(whole))
        there = len({(each.stage, each.part) for each in order if each.kind is Kind.UNSHARD})
        assert most == min(prefetch + 1, there)
        assert not whole


def test_parameters_that_stay_are_gathered_once_a_micro_batch(program: Any) -> None:
    (only,) = program("mlp-tiny", "sharding=fsdp", "reshard_after_forward=false", "num_microbatches=2").lists
    blocks = sorted({each.part for each in only if each.kind is Kind.UNSHARD})
    assert len(blocks) == 5
    # The first block's backward is followed by its own next forward.
    for bucket in blocks[:-1]:
        its = [each for each in only if each.kind in GATHERS and each.part == bucket]
        assert text(its) == " ".join(f"0UNSHARD{m}.{bucket} 0RESHARD{m}.{bucket}" for m in range(2))


def test_parameters_stay_while_micro_batches_are_between_forward_and_backward(program: Any) -> None:
    compiled = program("gpt-tiny", "pp=2", "schedule=gpipe", "sharding=fsdp", "reshard_after_forward=false")
    for order in compiled.lists:
        gathered = [each[1::2] for each in order if each.kind is Kind.UNSHARD]
        assert len(gathered) == len(set(gathered))


def test_what_is_updated_in_parts_is_gathered_in_forward_order(program: Any) -> None:
    changes = ("sharding=zero1", "bucket_size=1 B", "num_microbatches=1")
    *_, middle, last = (each for each in text(program("mlp-tiny", *changes).lists[0]).split() if "GATHER" in each)
    assert (middle, last) == ("0GATHER_PARAM.1", "0GATHER_PARAM.0")
    after, before = (program("gpt-tiny", *changes, f"overlap_param_gather={early}") for early in ("false", "true"))
    gathers = [each for each in after.lists[0] if each.kind is Kind.GATHER_PARAM]
    assert after.lists[0][-len(gathers) :] == before.lists[0][: len(gathers)] == tuple(gathers)
    waits = dict(zip(before.lists[0], dependencies(before, before.lists[0]), strict=True))
    forwards = [each for each in before.lists[0] if each.kind is Kind.F]
    needed = [[str(before.lists[0][need]) for need in waits[each]] for each in forwards]
    assert [need for each in needed for need in each if "GATHER" in need] == list(map(str, gathers))


def test_gradients_are_reduced_in_each_micro_batch_and_over_copies(program: Any) -> None:
    (only,) = program("mlp-tiny", "sharding=hsdp", "dp_shard=2", "gradient_sync=each", "num_microbatches=2").lists
    reductions = [str(each) for each in only if each.kind in SUMS]
    parts = sorted({each.part for each in only if each.kind in SUMS})
    assert reductions == [
        f"0{kind}{number}.{part}" for number in range(2) for part in parts for kind in ("REDUCE_GRAD", "REDUCE_COPIES")
    ]


SUMMED = [form for form in FORMS if any(each.startswith("sharding") for each in form) and form not in SHARDED[:3]]


@pytest.mark.parametrize("form", SUMMED)
def test_every_sum_and_gathering_out_of_its_place_is_found(program: Any, form: tuple[str, ...]) -> None:
    compiled = program(*form)
    rank, order = len(compiled.lists) - 1, compiled.lists[-1]
    early = compiled.plan.overlap_param_gather
    for position, each in enumerate(order):
        if each.kind not in (*SUMS, *PARAMETER_GATHERS.values()):
            continue
        others = (*order[:position], *order[position + 1 :])
        gathers = each.kind not in SUMS
        damages = {others: f": {each} is missing", (*order, each): f": {each} appears 2 times, must appear once"}
        if not (gathers and early):
            damages[each, *others] = f"{each} comes before"
        if not gathers or early:
            damages[*others, each] = f"comes before {each}, which it needs"
        for damage, words in damages.items():
            message = refusal(replace(compiled, lists=(*compiled.lists[:rank], damage)))
            assert message.startswith(f"pipeline rank {rank}, instruction ")
            assert words in message


@pytest.mark.parametrize("form", SHARDED)
def test_buckets_of_a_sharded_plan_are_blocks_of_equal_parts(program: Any, form: tuple[str, ...]) -> None:
    compiled = program(*form)
    for stage in compiled.stages:
        for bucket in stage.buckets:
            nodes = [node for node in stage.nodes if node.name in bucket.nodes]
            parameters = sum(node.layer.num_parameters for node in nodes)
            assert bucket.elements % compiled.plan.sharers == 0
            assert 0 <= bucket.elements - parameters < compiled.plan.sharers
            assert len({node.block for node in nodes}) == 1
        assert sum(len(bucket.nodes) for bucket in stage.buckets) == sum(
            bool(n.layer.parameters()) for n in stage.nodes
        )


@pytest.mark.parametrize("form", SHARDED)
def test_every_gathering_out_of_its_place_is_found(program: Any, form: tuple[str, ...]) -> None:
    compiled = program(*form)
    rank, order = len(compiled.lists) - 1, compiled.lists[-1]
    for position, each in enumerate(order):
        if each.kind not in GATHERS:
            continue
        others = (*order[:position], *order[position + 1 :])
        for damage, words in {
            others: f": {each} is missing",
            (*order, each): f": {each} appears 2 times, must appear once",
            (*others, each): f"comes before {each}, which it needs",
        }.items():
            message = refusal(replace(compiled, lists=(*compiled.lists[:rank], damage)))
            assert message.startswith(f"pipeline rank {rank}, instruction ")
            assert words in message
        if each.kind is Kind.RESHARD:
            early = (each, *others)
            message = refusal(replace(compiled, lists=(*compiled.lists[:rank], early)))
            assert f"{each} comes before {each._replace(kind=Kind.UNSHARD)}, which it needs" in message


def test_what_is_not_sharded_gathers_nothing(program: Any) -> None:
    compiled = program("gpt-tiny", "sharding=fsdp", devices=1)
    assert not any(each.kind in GATHERS for each in compiled.lists[0])
    stranger = Instruction(Kind.UNSHARD, 0, 0, 0)
    assert "does not belong on this rank" in refusal(replace(compiled, lists=((stranger, *compiled.lists[0]),)))


def test_copies_of_stages_cannot_be_sharded(program: Any) -> None:
    with pytest.raises(InputError, match=r"plan.sharding: .*chimera.*set sharding: none"):
        program("gpt-tiny", "pp=2", "schedule=chimera", "sharding=fsdp")


@pytest.mark.parametrize("shares", ["sequence_parallel=false", "sequence_parallel=true"])
def test_input_gradients_are_summed_beside_the_weight_gradients_of_the_same_layer(program: Any, shares: str) -> None:
    """As LinearWithGradAccumulationAndAsyncCommunication of Megatron does; every sum of a layer's input gradients."""
    compiled = program("gpt-tiny", "tp=2", "tp_overlap=true", "vocab_parallel=true", shares)
    (stage,), (order,) = compiled.stages, compiled.lists
    parts = {node.name: part for part, segment in enumerate(stage.segments) for node in segment.nodes}
    first = [(each.kind, each.part) for each in order if each.microbatch == 0]
    for layer in ("block0.qkv", "block0.fc1", "block3.qkv", "head"):
        place = first.index((Kind.I, parts[layer]))
        assert first[place + 1] == (Kind.TP_B, parts[f"{layer}+f"])
        assert (Kind.W, parts[layer]) in first[place + 2 : place + 4]
    assert (Kind.B, parts["block0.fc2"]) in first
    needs = dependencies(compiled, order)
    at = {(each.kind, each.part): position for position, each in enumerate(order) if each.microbatch == 0}
    beside = at[Kind.W, parts["block1.fc1"]]
    assert at[Kind.TP_B, parts["block1.fc1+f"]] not in needs[beside]
