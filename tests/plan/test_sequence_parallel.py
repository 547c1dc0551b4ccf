"""Sequence parallelism as a rewriting of the graph, and what the Program makes of it."""

from typing import Any

import pytest

from simulator.errors import InputError
from simulator.model.graph import Shard
from simulator.model.layers import Exchange
from simulator.program import Kind, Program
from simulator.program.liveness import held_after
from tests.model.small import SMALL, changes

SEQUENCE = ("sequence_parallel=true", "model.num_hidden_layers=1", "num_microbatches=1")


def sent(program: Program) -> float:
    """Return the bytes that a rank's ring sends: an all-reduce twice as much as a gathering or a scattering."""
    messages = [program.message(each) for each in program.lists[0] if each.kind in (Kind.TP_F, Kind.TP_B)]
    return sum(message.size * (2 if message.operation == "all_reduce" else 1) for message in messages)


def test_between_regions_a_rank_has_its_part_of_the_sequence(planned: Any) -> None:
    inputs = planned("gpt-tiny", 4, "tp=4", *SEQUENCE)
    local = inputs.program.graph
    for name in ("embedding+g", "embedding+positions", "block0.norm1", "block0.add1", "block0.norm2", "norm"):
        assert local.shape(name) == (128 // 4, 256)
    for name in ("block0.qkv+f", "block0.fc1+f", "block0.out", "block0.fc2", "head+f"):
        assert local.shape(name) == (128, 256)


def test_it_sends_what_the_sums_sent(planned: Any) -> None:
    """An all-reduce is a reduce-scatter and an all-gather (Korthikanti et al. 2022, section 4.2.2)."""
    together, shared = (planned("gpt-tiny", 2, "tp=2", flag, *SEQUENCE[1:]).program for flag in ("tp=2", SEQUENCE[0]))
    assert sent(together) == sent(shared)


def test_gradients_of_parts_are_summed_once_a_step(planned: Any) -> None:
    program = planned("gpt-tiny", 4, "tp=2", "num_microbatches=4", *SEQUENCE[:2]).program
    (order,) = program.lists
    (reduction,) = (each for each in order if each.kind is Kind.REDUCE_TP_GRAD)
    # Three norms, two biases behind products cut by rows, and a row for each of 128 positions.
    elements = 3 * 2 * 256 + 2 * 256 + 128 * 256
    message = program.message(reduction)
    assert (message.operation, message.size) == ("all_reduce", elements * 4.0)
    assert [each.kind for each in order[order.index(reduction) + 1 :]] == [Kind.OPTIM]
    assert len(program.group(0, "tp")) == len(program.group(0, "dp")) == 2


def test_what_was_gathered_is_gathered_again_beside_the_rest_of_its_region(planned: Any) -> None:
    program = planned("gpt-tiny", 2, "tp=2", *SEQUENCE).program
    (stage,), (order,) = program.stages, program.lists
    parts = {node.name: part for part, segment in enumerate(stage.segments) for node in segment.nodes}
    backward = [(each.kind, each.part) for each in order]
    again = backward.index((Kind.TP_R, parts["block0.fc1+f"]))
    assert backward[again + 1 : again + 3] == [(Kind.B, parts["block0.fc2"]), (Kind.B, parts["block0.fc1"])]
    gathered = [part for part, segment in enumerate(stage.segments) if segment.is_made_again]
    assert [part for kind, part in backward if kind is Kind.TP_R] == gathered[::-1]


def test_a_region_is_held_as_its_part_of_the_sequence(planned: Any) -> None:
    """After the forward of fc1 what it read is gone: the next computation adds gelu's output alone."""
    program = planned("gpt-tiny", 2, "tp=2", *SEQUENCE).program
    (stage,), (order,) = program.stages, program.lists
    computed = [each for each in order if each.kind in (Kind.F, Kind.B, Kind.OPTIM)]
    held = dict(zip(computed, held_after(program, 0), strict=True))
    parts = {node.name: part for part, segment in enumerate(stage.segments) for node in segment.nodes}
    before, after = (
        held[next(e for e in computed if e.part == parts[name])] for name in ("block0.norm2", "block0.fc1")
    )
    made = program.tensor_bytes(["block0.fc1"])
    assert after - before == made


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_no_gathered_tensor_outlives_its_forward(planned: Any, recompute: str) -> None:
    program = planned("gpt-tiny", 2, "tp=2", "sequence_parallel=true", f"recompute={recompute}").program
    for stage in program.stages:
        for part, segment in enumerate(stage.segments):
            if segment.exchange and segment.exchange.made_again and not segment.recomputed:
                assert segment.outputs[0] in stage.drops[stage.last_readers[part]]


def test_every_parameter_outside_the_regions_is_partial(planned: Any) -> None:
    local = planned("llama3-8b", 4, "tp=4", "sequence_parallel=true").program.graph
    assert all(node.shard is not Shard.NONE for node in local.nodes if node.layer.parameters())
    exchanged = {node.layer.forward for node in local.nodes if isinstance(node.layer, Exchange)}
    assert exchanged == {"all_gather", "reduce_scatter", "all_reduce"}


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (
            "gpt-tiny",
            ("tp=1",),
            "the ranks of a tensor-parallel group share the sequence, and tp(1) has one; set tp to 2",
        ),
        (
            "gpt-tiny",
            ("tp=4", "model.sequence_length=126"),
            "tp(4) does not divide the sequence of 126 (remainder 2); legal neighbour: tp 3 or 6, or sequence_length "
            "124 or 128",
        ),
        ("gpt-tiny", ("tp=2", "vocab_parallel=false"), "leave vocab_parallel out, or set sequence_parallel: false"),
        ("bert-base", ("tp=2", "model.predictions_per_sequence=8"), "predicts some positions alone"),
        ("mlp-tiny", ("tp=2",), "mlp-tiny has no embedding and output projection"),
    ],
)
def test_what_cannot_be_shared_out(planned: Any, model: str, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as raised:
        planned(model, 4, "sequence_parallel=true", *changes)
    assert message in str(raised.value)


def test_what_only_an_exchange_reads_is_not_made_again(planned: Any) -> None:
    """Latent attention's rotated keys are gathered over tp, then over cp; backward of a gathering reads nothing."""
    model, keys = SMALL["deepseek"][0], changes("deepseek")
    program = planned(model, 4, *keys, "tp=2", "cp=2", "context_parallel=all_gather", "sequence_parallel=true").program
    stage = program.stages[0]
    exchanged = {segment.inputs[0] for segment in stage.segments if segment.exchange}
    twice = [each for each in stage.segments if each.exchange and exchanged.intersection(each.outputs)]
    assert twice and not any(each.is_made_again for each in twice)
