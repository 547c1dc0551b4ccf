"""Tensor parallelism as a rewriting of the graph."""

from itertools import groupby
from typing import Any

import pytest

from simulator.errors import InputError
from simulator.model import LayerGraph, Phase
from simulator.model.graph import Shard
from simulator.model.layers import Activation, Attention, Bias, Exchange, Linear, Qkv
from simulator.model.layers.exchange import NOTHING
from simulator.program import Instruction, Kind
from simulator.program.program import Message

LARGE = [
    ("llama3-8b", 8),
    ("qwen3-8b", 4),
    ("mixtral-8x7b", 4),
    ("deepseek-v2-lite", 8),
    ("bert-large", 2),
    ("vit-b-16", 4),
]


@pytest.mark.parametrize(("model", "tp"), [("gpt-tiny", 2), ("gpt-tiny", 8), ("mlp-tiny", 4), ("cnn-tiny", 2), *LARGE])
def test_ranks_hold_the_whole_model_together(planned: Any, model: str, tp: int) -> None:
    inputs = planned(model, tp, f"tp={tp}", "vocab_parallel=false")
    whole, local = inputs.graph, inputs.program.graph
    # The bias of a row-parallel product and everything outside the regions is on all ranks.
    sizes = {node.parameter_name(name): 0 for node in local.nodes for name in node.layer.parameters()}
    for node in local.nodes:
        for name, shape in node.layer.parameters().items():
            count = 1
            for extent in shape:
                count *= extent
            sharded = node.shard is not Shard.NONE
            sizes[node.parameter_name(name)] = count * (tp if sharded and name not in ("q_norm", "k_norm") else 1)
    expected = {node.parameter_name(name): 0 for node in whole.nodes for name in node.layer.parameters()}
    assert sizes.keys() == expected.keys()
    assert sum(sizes.values()) == whole.num_parameters


@pytest.mark.parametrize(("model", "tp"), [("gpt-tiny", 4), ("mlp-tiny", 2), ("cnn-tiny", 4), *LARGE])
def test_the_work_of_a_region_is_divided(planned: Any, model: str, tp: int) -> None:
    inputs = planned(model, tp, f"tp={tp}", "vocab_parallel=false")
    whole = {node.name: node for node in inputs.graph.nodes}
    local = inputs.program.graph
    regions = [node for node in local.nodes if node.shard is not Shard.NONE]
    assert regions
    for node in regions:
        for phase in Phase:
            one, all_together = (
                sum(k.flops for k in n.layer.kernels(phase, g.input_shapes(n), 2) if k.kind == "matmul")
                for n, g in ((node, local), (whole[node.name], inputs.graph))
            )
            assert one * tp == all_together


def test_shapes_outside_the_regions_stay(planned: Any) -> None:
    inputs = planned("gpt-tiny", 4, "tp=4")
    for node in inputs.program.graph.nodes:
        inside = node.shard is not Shard.NONE or isinstance(node.layer, Activation)
        if not inside and node.name in {each.name for each in inputs.graph.nodes}:
            assert inputs.program.graph.shape(node.name) == inputs.graph.shape(node.name)


def test_megatron_block(planned: Any) -> None:
    local = planned("gpt-tiny", 4, "tp=4").program.graph
    nodes = {node.name: node for node in local.nodes}
    qkv, attention, out, fc1, fc2 = (nodes[f"block1.{name}"] for name in ("qkv", "attention", "out", "fc1", "fc2"))
    assert qkv.layer == Qkv(hidden=256, num_heads=2, num_kv_heads=2, head_dim=32)
    assert attention.layer == Attention(num_heads=2, num_kv_heads=2, head_dim=32, flash=True)
    assert out.layer == Linear(in_features=64, out_features=256, bias=False)
    assert (qkv.inputs, nodes["block1.out+g"].inputs) == (("block1.qkv+f",), (out.name,))
    assert nodes["block1.add1"].inputs == ("block0.add2", "block1.out+bias")
    assert fc1.layer == Linear(in_features=256, out_features=256)
    assert fc2.layer == Linear(in_features=256, out_features=256, bias=False)
    assert (qkv.shard, attention.shard, out.shard) == (Shard.HEADS, Shard.HEADS, Shard.ROW)
    assert (fc1.shard, fc2.shard) == (Shard.COLUMN, Shard.ROW)
    f, g = nodes["block1.fc1+f"], nodes["block1.fc2+g"]
    assert f.layer == Exchange(axis="tp", forward=NOTHING, backward="all_reduce", num_ranks=4)
    assert g.layer == Exchange(axis="tp", forward="all_reduce", backward=NOTHING, num_ranks=4)
    assert (f.inputs, fc1.inputs, g.inputs) == (("block1.norm2",), (f.name,), (fc2.name,))
    added = nodes["block1.fc2+bias"]
    assert added.inputs == (g.name,)
    assert isinstance(added.layer, Bias)
    assert added.parameter_name(next(iter(added.layer.parameters()))) == "block1.fc2.bias"
    assert nodes["block1.add2"].inputs == ("block1.add1", "block1.fc2+bias")


def test_each_region_is_reduced_once_each_way(planned: Any) -> None:
    (stage,) = planned("gpt-tiny", 2, "tp=2", "vocab_parallel=false").program.stages
    exchanges = [(segment.forward, segment.backward) for segment in stage.segments if segment.exchange]
    assert exchanges == [(None, Kind.TP_B), (Kind.TP_F, None)] * 2 * 4


def test_the_first_layer_needs_no_gradient_reduced(planned: Any) -> None:
    (stage,) = planned("mlp-tiny", 2, "tp=2").program.stages
    assert [(segment.forward, segment.backward) for segment in stage.segments if segment.exchange] == [
        (Kind.TP_F, None),
        (None, Kind.TP_B),
        (Kind.TP_F, None),
    ]


def test_blocks_that_share_a_region_are_one(planned: Any) -> None:
    """So that no stage begins between the halves of a pair."""
    local = planned("mlp-tiny", 2, "tp=2").program.graph
    assert [block for block, _ in groupby(node.block for node in local.nodes)] == ["hidden0", "hidden2", "head"]


def test_one_rank_changes_nothing(planned: Any) -> None:
    inputs = planned("gpt-tiny", 2, "tp=1")
    assert inputs.program.graph == inputs.graph


def region_of(graph: LayerGraph, name: str) -> list[str]:
    """Return what runs between the same two exchanges."""
    runs = groupby(graph.nodes, key=lambda node: isinstance(node.layer, Exchange))
    return next(names for _, run in runs if name in (names := [node.name for node in run]))


def test_latent_attention_is_cut_behind_its_latents(planned: Any) -> None:
    """Both products up are cut by heads, the latents and the shared key are on all ranks; one reduction each way."""
    local = planned("deepseek-v2", 8, "tp=8", "model.num_hidden_layers=2").program.graph
    inside = [f"block1.{name}" for name in ("q_up", "kv_up", "attention", "out")]
    assert region_of(local, "block1.attention") == inside
    assert local.shape("block1.q_up") == (4096, 16 * (128 + 64))
    assert local.shape("block1.kv_up") == (4096, 16 * (128 + 128))
    assert local.shape("block1.k_rope") == (4096, 64)


def test_experts_are_cut_inside_and_their_rows_combined_before_the_reduction(planned: Any) -> None:
    local = planned("mixtral-8x7b", 4, "tp=4", "model.num_hidden_layers=1").program.graph
    inside = [f"block0.{name}" for name in ("experts1", "experts_glu", "experts2", "combine")]
    assert region_of(local, "block0.combine") == inside
    assert local.by_name["block0.experts1"].layer.parameters() == {"expert_weight": (8, 2 * 14336 // 4, 4096)}
    assert local.by_name["block0.experts2"].layer.parameters() == {"expert_weight": (8, 4096, 14336 // 4)}


def test_ranks_that_outnumber_key_value_heads_join_parts_of_them(planned: Any) -> None:
    inputs = planned("llama3-8b", 16, "tp=16", "model.num_hidden_layers=1", "microbatch_size=1")
    local = inputs.program.graph.by_name
    made, joined, own = (local[f"block0.qkv{each}"] for each in ("", "+all", "+own"))
    # 32 heads of queries, 8 of keys, 8 of values, 128 features each; no row is kept twice.
    assert made.layer.parameters() == {"weight": (6144 // 16, 4096)}
    assert made.layer.parts("weight") == (256, 64, 64)
    assert [inputs.program.graph.shape(node.name)[1] for node in (made, joined, own)] == [384, 6144, (2 + 1 + 1) * 128]
    assert local["block0.attention"].inputs == (own.name,)
    assert (local["block0.attention"].layer.num_heads, local["block0.attention"].layer.num_kv_heads) == (2, 1)
    part = next(i for i, each in enumerate(inputs.program.stages[0].segments) if each.nodes == (joined,))
    for kind, operation in ((Kind.TP_F, "all_gather"), (Kind.TP_B, "reduce_scatter")):
        assert inputs.program.message(Instruction(kind, 0, 0, part)) == Message(operation, 8192.0 * 6144 * 4)


@pytest.mark.parametrize(
    ("model", "tp", "changes", "message"),
    [
        (
            "llama3-8b",
            8,
            ("model.num_attention_heads=48", "model.num_key_value_heads=12", "model.head_dim=64"),
            "8 does not divide the key-value heads of block0.attention = 12 (remainder 4); legal neighbour: tp 4",
        ),
        ("qwen3-8b", 16, (), "16 does not divide the key-value heads of block0.attention = 8 (remainder 8)"),
        (
            "llama3-8b",
            3,
            (),
            "3 does not divide the heads of block0.attention = 32 (remainder 2); legal neighbour: tp 2 or 4",
        ),
        ("llama3-8b", 8, ("model.intermediate_size=14340",), "8 does not divide the features of block0.fc1 = 14340"),
        ("mixtral-8x7b", 8, ("model.moe_intermediate_size=20",), "the features of block0.experts1 = 20 (remainder 4)"),
        ("linear-regression", 2, (), "linear-regression has no pair of layers that can be split; use tp 1"),
        ("resnet-50", 3, (), "3 does not divide the channels of stage0.block0.conv1 = 64 (remainder 1)"),
    ],
)
def test_sizes_that_do_not_divide(planned: Any, model: str, tp: int, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as raised:
        planned(model, tp, f"tp={tp}", *changes)
    assert message in str(raised.value)


def test_batch_normalisation_between_two_convolutions_has_a_part_of_the_channels(planned: Any) -> None:
    graph = planned("resnet-50", 2, "tp=2").program.graph
    cut = {node.name: (node.shard, node.layer.parameters()) for node in graph.nodes if node.name.endswith(".norm")}
    first, second = (cut[f"stage0.block0.{name}.norm"] for name in ("conv1", "conv2"))
    assert first == (Shard.COLUMN, {"weight": (32,), "bias": (32,)})
    assert second == (Shard.NONE, {"weight": (64,), "bias": (64,)})


def test_a_gated_unit_is_cut_where_its_product_knows_both_halves(planned: Any) -> None:
    """Cut as one matrix, a rank would get gates of some features and inputs of others."""
    layers = "model.layers=[{{kind: linear, out_features: 16{}}}, {{kind: glu}}, {{kind: linear, out_features: 4}}]"
    local = planned(
        "residual-list", 2, "tp=2", "model.input.shape=[5, 8]", layers.format(", num_parts: 2")
    ).program.graph
    assert [node.shard for node in local.nodes][:3] == [Shard.COLUMN, Shard.NONE, Shard.ROW]
    with pytest.raises(InputError, match="no pair of layers that can be split"):
        planned("residual-list", 2, "tp=2", "model.input.shape=[5, 8]", layers.format(""))


def test_a_tied_head_has_a_copy_where_it_stands_in_another_stage(planned: Any) -> None:
    one, two = planned("gpt2", 1), planned("gpt2", 2, "pp=2")
    table = 50257 * 768
    assert sum(stage.num_parameters for stage in one.program.stages) == one.graph.num_parameters
    assert sum(stage.num_parameters for stage in two.program.stages) == one.graph.num_parameters + table
