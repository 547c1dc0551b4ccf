"""Context parallelism as a rewriting of the graph."""

from dataclasses import replace
from typing import Any

import pytest

from simulator.errors import InputError
from simulator.model.layers import Exchange, LatentAttention
from simulator.model.layers.exchange import NOTHING
from simulator.program import Instruction, Kind
from simulator.program.liveness import held_after

MODES = ("ring", "all_to_all", "all_gather")
SMALL = "model.num_hidden_layers=2"
FLASH = "model.flash=true"


def flops(graph: Any, kinds: tuple[str, ...] = ("matmul", "attention")) -> float:
    return sum(
        kernel.flops
        for node in graph.nodes
        for phase in "FIW"
        for kernel in node.layer.kernels(phase, graph.input_shapes(node), 1)
        if kernel.kind in kinds
    )


@pytest.mark.parametrize(
    ("model", "mode"),
    [*(("llama3-8b", mode) for mode in MODES), ("deepseek-v2-lite", "all_to_all"), ("deepseek-v2-lite", "all_gather")],
)
def test_work_and_products_fall_by_cp(planned: Any, model: str, mode: str) -> None:
    whole, shared = (
        planned(model, 4, f"cp={cp}", f"context_parallel={mode}", SMALL, FLASH).program.graph for cp in (1, 4)
    )
    assert 4 * flops(shared) == flops(whole)
    assert shared.num_parameters == whole.num_parameters
    assert shared.shape("head") == (whole.shape("head")[0] // 4, *whole.shape("head")[1:])


@pytest.mark.parametrize(("mode", "more"), [("ring", 1e-3), ("all_to_all", 0.04)])
def test_activations_fall_by_cp(planned: Any, mode: str, more: float) -> None:
    """A ring keeps neither keys that pass by nor partial outputs; who exchanges heads keeps the context twice."""
    whole, shared = (
        max(held_after(planned("llama3-8b", 4, f"cp={cp}", f"context_parallel={mode}", SMALL, FLASH).program, 0))
        for cp in (1, 4)
    )
    assert shared == pytest.approx(whole / 4, rel=more)


def messages(program: Any) -> list[tuple[str, str, float]]:
    """Return kind, operation and MiB of what the attention of one block moves, in order."""
    (stage,) = program.stages
    found = []
    for part, segment in enumerate(stage.segments):
        for kind in (segment.forward, segment.backward) if segment.exchange else ():
            if kind:
                message = program.message(Instruction(kind, 0, 0, part))
                found.append((kind.value, message.operation, message.size / 2**20))
    return found


def test_messages_of_each_way(planned: Any) -> None:
    """8192 tokens of 32 heads and 2 x 8 of keys and values, 128 features in fp32: a rank of four makes 48 MiB of them.

    Of a ring each shift brings 16 MiB of keys and values, backward as many gradients beside them.
    """

    def moved(mode: str) -> list[tuple[str, str, float]]:
        changes = ("microbatch_size=1", "model.num_hidden_layers=1", "model.sequence_length=8192")
        return messages(planned("llama3-8b", 4, "cp=4", f"context_parallel={mode}", *changes).program)

    assert moved("all_to_all") == [
        ("CP_F", "all_to_all", 48),
        ("CP_B", "all_to_all", 48),
        ("CP_F", "all_to_all", 32),
        ("CP_B", "all_to_all", 32),
    ]
    assert moved("all_gather") == [("CP_F", "all_gather", 64), ("CP_B", "reduce_scatter", 64)]
    assert moved("ring") == [("CP_F", "shift", 16), ("CP_B", "shift", 32)] * 3


def test_a_block_waits_for_its_own_keys_alone(planned: Any) -> None:
    program = planned("llama3-8b", 4, "cp=4", "model.num_hidden_layers=1").program
    (stage,) = program.stages
    names = {segment.nodes[0].name: part for part, segment in enumerate(stage.segments)}
    for distance in range(1, 4):
        block = stage.segments[names[f"block0.attention+block{distance}"]]
        assert names[f"block0.attention+kv{distance}"] in block.makers
        assert all(names.get(f"block0.attention+kv{later}") not in block.makers for later in range(distance + 1, 4))
    borders = [s.exchange for s in stage.segments if s.exchange and s.exchange.forward == NOTHING]
    assert len(borders) == 3


def test_heads_are_exchanged_behind_those_that_tensor_parallelism_leaves(planned: Any) -> None:
    graph = planned("llama3-8b", 8, "cp=4", "tp=2", "context_parallel=all_to_all", SMALL).program.graph
    core = graph.by_name["block0.attention"]
    assert (core.layer.num_heads, core.layer.num_kv_heads) == (32 // 8, 1)
    heads = graph.by_name["block0.attention+heads"].layer
    assert isinstance(heads, Exchange)
    assert heads.sections == (16 * 128, 4 * 128, 4 * 128)
    assert graph.by_name["block0.out"].inputs == ("block0.attention+sequence",)


def test_latent_attention_gathers_the_key_that_heads_share(planned: Any) -> None:
    graph = planned("deepseek-v2-lite", 4, "cp=4", "context_parallel=all_to_all", SMALL).program.graph
    core = graph.by_name["block1.attention"]
    assert isinstance(core.layer, LatentAttention)
    names = [f"block1.attention+{name}" for name in ("q", "kv", "k_rope")]
    assert list(core.inputs) == names
    assert [graph.by_name[name].layer.forward for name in names] == ["all_to_all", "all_to_all", "all_gather"]
    assert [graph.shape(name)[0] for name in names] == [4096] * 3


def test_gradients_are_summed_over_the_sequence_too(planned: Any) -> None:
    program = planned("llama3-8b", 8, "cp=4", SMALL).program
    assert program.peers(0, Instruction(Kind.REDUCE_GRAD, 0, part=0)) == tuple(range(8))


def test_experts_on_ranks_that_share_a_sequence(planned: Any) -> None:
    program = planned("mixtral-8x7b", 8, "cp=4", "ep=8", SMALL).program
    assert program.group(3, "ep") == tuple(range(8))
    assert program.graph.shape("block0.experts1")[0] == 4096 // 4 * 2


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (
            "llama3-8b",
            ("model.sequence_length=8200",),
            r"8200 tokens cannot be cut into 2 \* cp\(8\) = 16 chunks .*cp 4",
        ),
        (
            "bert-large",
            ("model.sequence_length=500",),
            r"500 tokens cannot be cut into cp\(8\) parts \(remainder 4\).* 496 or 504",
        ),
        (
            "llama3-8b",
            ("context_parallel=all_to_all", "tp=2"),
            r"8 does not divide the key-value heads of block0.attention = 8 / tp\(2\) = 4 \(remainder 4\).*cp 4, or",
        ),
        ("deepseek-v2-lite", (), "ring: latent attention is not run in pieces; set context_parallel: all_to_all"),
        ("vit-b-16", (), r"cannot share its input out: patches \(conv2d\) looks at several places at once"),
        ("llama3-8b", ("context_parallel=ulysses",), '"ulysses" is not ring or all_to_all or all_gather'),
    ],
)
def test_what_cannot_be_shared_out_is_refused(planned: Any, model: str, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        planned(model, 16 if "tp=2" in changes else 8, "cp=8", *changes, SMALL)


def test_one_rank_changes_nothing(planned: Any) -> None:
    inputs = planned("llama3-8b", 2, "cp=1", SMALL)
    assert replace(inputs.program.graph, _shapes={}) == inputs.graph
