"""Tensor parallelism as a rewriting of the graph."""

from typing import Any

import pytest

from simulator.model import Phase
from simulator.model.graph import Shard
from simulator.model.layers import Attention, Bias, Linear, Qkv


@pytest.mark.parametrize(("model", "tp"), [("gpt-tiny", 2), ("gpt-tiny", 8), ("mlp-tiny", 4), ("cnn-tiny", 2)])
def test_ranks_hold_the_whole_model_together(planned: Any, model: str, tp: int) -> None:
    inputs = planned(model, tp, f"tp={tp}")
    whole, local = inputs.graph, inputs.program.graph
    # The bias of a row-parallel product and everything outside the regions is on all ranks.
    sizes = {node.parameter_name(name): 0 for node in local.nodes for name in node.layer.parameters()}
    for node in local.nodes:
        for name, shape in node.layer.parameters().items():
            count = 1
            for extent in shape:
                count *= extent
            sharded = node.shard is not Shard.NONE
            sizes[node.parameter_name(name)] = count * (tp if sharded else 1)
    expected = {node.parameter_name(name): 0 for node in whole.nodes for name in node.layer.parameters()}
    assert sizes.keys() == expected.keys()
    assert sum(sizes.values()) == whole.num_parameters


@pytest.mark.parametrize(("model", "tp"), [("gpt-tiny", 4), ("mlp-tiny", 2), ("cnn-tiny", 4)])
def test_the_work_of_a_region_is_divided(planned: Any, model: str, tp: int) -> None:
    inputs = planned(model, tp, f"tp={tp}")
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
        if not node.region and node.name in {each.name for each in inputs.graph.nodes}:
            assert inputs.program.graph.shape(node.name) == inputs.graph.shape(node.name)


def test_megatron_block(planned: Any) -> None:
    local = planned("gpt-tiny", 4, "tp=4").program.graph
    nodes = {node.name: node for node in local.nodes}
    qkv, attention, out, fc1, fc2 = (nodes[f"block1.{name}"] for name in ("qkv", "attention", "out", "fc1", "fc2"))
    assert qkv.layer == Qkv(hidden=256, num_heads=2, num_kv_heads=2, head_dim=32)
    assert attention.layer == Attention(num_heads=2, num_kv_heads=2, head_dim=32)
    assert out.layer == Linear(in_features=64, out_features=256, bias=False)
    assert qkv.region == attention.region == out.region
    assert nodes["block1.add1"].inputs == ("block0.add2", "block1.out+bias")
    assert fc1.layer == Linear(in_features=256, out_features=256)
    assert fc2.layer == Linear(in_features=256, out_features=256, bias=False)
    assert (qkv.shard, attention.shard, out.shard) == (Shard.HEADS, Shard.HEADS, Shard.ROW)
    assert (fc1.shard, fc2.shard) == (Shard.COLUMN, Shard.ROW)
    assert fc1.region == fc2.region == nodes["block1.gelu"].region
    added = nodes["block1.fc2+bias"]
    assert isinstance(added.layer, Bias)
    assert added.parameter_name(next(iter(added.layer.parameters()))) == "block1.fc2.bias"
    assert nodes["block1.add2"].inputs == ("block1.add1", "block1.fc2+bias")


def test_each_region_is_reduced_once_each_way(planned: Any) -> None:
    (stage,) = planned("gpt-tiny", 2, "tp=2").program.stages
    assert sum(segment.parallel for segment in stage.segments) == 2 * 4
    assert all(segment.reduces_backward for segment in stage.segments if segment.parallel)


def test_the_first_layer_needs_no_gradient_reduced(planned: Any) -> None:
    (stage,) = planned("mlp-tiny", 2, "tp=2").program.stages
    parallel = [segment for segment in stage.segments if segment.parallel]
    assert [segment.reduces_backward for segment in parallel] == [False, True]


def test_one_rank_changes_nothing(planned: Any) -> None:
    inputs = planned("gpt-tiny", 2, "tp=1")
    assert inputs.program.graph == inputs.graph
