"""Vocabulary parallelism as a rewriting of the graph."""

from typing import Any

import pytest

from simulator.load import load
from simulator.model import Phase
from simulator.model.graph import Shard
from simulator.program import Instruction, Kind, Program


def messages(program: Program, kind: Kind) -> list[tuple[str, float]]:
    """Return what the exchanges of a kind move, in the order of the list."""
    order = program.lists[0]
    found = [program.message(each) for each in order if each.kind is kind and each.microbatch == 0]
    return [(message.operation, message.size) for message in found]


@pytest.mark.parametrize(("size", "tp", "rows"), [(50257, 8, 6400), (50257, 2, 25216), (256, 2, 128), (300, 4, 128)])
def test_ranks_have_a_multiple_of_128_rows(planned: Any, size: int, tp: int, rows: int) -> None:
    """50,257 tokens over 8 ranks are 51,200 rows in Megatron: 8 times 128 times 50."""
    local = planned("gpt-tiny", tp, f"tp={tp}", f"model.vocab_size={size}").program.graph
    assert local.by_name["embedding"].layer.parameters() == {"weight": (rows, 256)}
    assert local.by_name["head"].layer.parameters() == {"weight": (rows, 256)}
    assert local.shape("head") == (128, rows)
    assert (local.num_classes, rows * tp >= size) == (size, True)


def test_the_embedding_is_summed_once_and_the_head_hands_back_one_sum(planned: Any) -> None:
    program = planned("gpt-tiny", 2, "tp=2", "model.num_hidden_layers=1", "num_microbatches=1").program
    batch, sequence, hidden = program.plan.microbatch_size, 128, 256
    whole, numbers = batch * sequence * hidden * 4.0, batch * sequence * 4.0
    # The embedding and two regions; then the largest logit, the exponentials and the target's logit.
    assert messages(program, Kind.TP_F) == [("all_reduce", whole)] * 3 + [("all_reduce", numbers)] * 3
    assert messages(program, Kind.TP_B) == [("all_reduce", whole)] * 3


def test_the_numbers_that_are_summed_are_fp32(planned: Any) -> None:
    program = planned("gpt-tiny", 2, "tp=2", "dtype=bf16", "num_microbatches=1").program
    assert messages(program, Kind.TP_F)[-1] == ("all_reduce", program.plan.microbatch_size * 128 * 4.0)


@pytest.mark.parametrize("phase", Phase)
def test_ranks_make_all_logits_together(planned: Any, phase: Phase) -> None:
    whole, local = (
        planned("gpt-tiny", 4, "tp=4", "model.vocab_size=1024", f"vocab_parallel={cut}").program.graph
        for cut in ("false", "true")
    )
    one, part = (
        graph.by_name["head"].layer.flops(phase, graph.input_shapes(graph.by_name["head"])) for graph in (whole, local)
    )
    assert part * 4 == one


def test_memory_of_the_logits_falls_by_tp(planned: Any) -> None:
    whole, local = (
        planned("gpt-tiny", 4, "tp=4", "model.vocab_size=1024", f"vocab_parallel={cut}").program.graph
        for cut in ("false", "true")
    )
    one, part = (
        sum(node.layer.extra_saved_bytes(graph.input_shapes(node), 8, 2) for node in graph.nodes if "loss" in node.name)
        for graph in (whole, local)
    )
    targets = 8 * 128 * (8 + 1)
    assert part == one / 4 + targets


@pytest.mark.parametrize(("topology", "usual"), [("local-cpu", False), ("emulated", False), ("pcie-box", True)])
@pytest.mark.parametrize("asked", [None, False, True])
def test_vocabularies_are_cut_on_gpus_or_when_asked_for(topology: str, usual: bool, asked: bool | None) -> None:
    told = [] if asked is None else [f"plan.vocab_parallel={str(asked).lower()}"]
    graph = load("gpt-tiny", topology, "single", ["topology.node.count=2", "plan.tp=2", *told]).program.graph
    assert (Shard.VOCABULARY in [node.shard for node in graph.nodes]) is (usual if asked is None else asked)


def test_a_model_without_a_vocabulary_stays_as_it_is(planned: Any) -> None:
    cut, whole = (planned("mlp-tiny", 2, "tp=2", f"vocab_parallel={cut}").program.graph for cut in ("true", "false"))
    assert cut == whole


def test_the_loss_waits_for_all_sums(planned: Any) -> None:
    program = planned("gpt-tiny", 2, "tp=2", "num_microbatches=1").program
    (stage,) = program.stages
    last = stage.segments[-1]
    assert [stage.segments[maker].forward for maker in last.makers] == [Kind.TP_F, Kind.TP_F]
    assert program.segment(Instruction(Kind.F, 0, 0, len(stage.segments) - 1)) is last
