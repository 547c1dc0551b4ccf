"""Where a model is cut into pipeline stages."""

from itertools import combinations
from typing import Any

import pytest

from simulator.errors import InputError
from simulator.load import load
from simulator.model.graph import Shard
from simulator.plan.stages import roofline_seconds


def first_nodes(inputs: Any) -> list[str]:
    return [stage.nodes[0].name for stage in inputs.program.stages]


def refusal(planned: Any, *arguments: Any) -> str:
    with pytest.raises(InputError) as raised:
        planned(*arguments)
    return str(raised.value)


def test_even_stages_have_equal_numbers_of_blocks(planned: Any) -> None:
    changes = ("pp=3", "stages=even", "model.num_hidden_layers=6")
    assert first_nodes(planned("gpt-tiny", 3, *changes)) == ["embedding", "block2.norm1", "block4.norm1"]


def test_auto_is_even_where_the_blocks_dominate(planned: Any) -> None:
    assert first_nodes(planned("gpt-tiny", 4, "pp=4")) == [
        "embedding",
        "block1.norm1",
        "block2.norm1",
        "block3.norm1",
    ]


def test_every_node_is_in_one_stage(planned: Any) -> None:
    for model, stages in (("gpt-tiny", 4), ("mlp-tiny", 5), ("cnn-tiny", 4), ("residual-list", 3)):
        inputs = planned(model, stages, f"pp={stages}", "stages=balanced")
        nodes = [node for stage in inputs.program.stages for node in stage.nodes]
        assert nodes == list(inputs.graph.nodes)


@pytest.mark.parametrize("model", ["gpt-tiny", "mlp-tiny", "cnn-tiny"])
@pytest.mark.parametrize("stages", [2, 3])
def test_no_cut_by_hand_beats_the_balanced_one(planned: Any, model: str, stages: int) -> None:
    inputs = planned(model, stages, f"pp={stages}", "stages=balanced")
    graph, plan, device = inputs.graph, inputs.plan, inputs.topology.device(0)

    def dearest(cuts: list[int]) -> float:
        ends = [*cuts[1:], len(graph.nodes)]
        spans = [graph.nodes[first:end] for first, end in zip(cuts, ends, strict=True)]
        return max(sum(roofline_seconds(graph, node, plan, device) for node in span) for span in spans)

    names = [node.name for node in graph.nodes]
    starts = [index for index in range(1, len(names)) if graph.nodes[index].block != graph.nodes[index - 1].block]
    chosen = dearest([names.index(name) for name in first_nodes(inputs)])
    best = min(dearest([0, *cuts]) for cuts in combinations(starts, stages - 1))
    assert chosen == pytest.approx(best)


def test_by_hand(planned: Any) -> None:
    inputs = planned("mlp-tiny", 2, "pp=2", "stages=[hidden0, head]")
    assert first_nodes(inputs) == ["fc0", "head"]


def test_stages_are_not_cut_across_a_residual_edge(planned: Any) -> None:
    message = refusal(planned, "residual-list", 2, "pp=2", "stages=[stem, conv2]")
    assert "'conv2' is not a block where another stage can begin" in message
    assert "legal: stem, stem_relu, conv1, pool" in message
    assert first_nodes(planned("residual-list", 2, "pp=2", "stages=[stem, pool]")) == ["stem", "pool"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["pp=3", "stages=even"], "3 does not divide the 4 repeated blocks (remainder 1); legal neighbour: pp 2 or 4"),
        (["pp=2", "stages=[block0]"], "1 blocks named for pp(2) stages"),
        (["pp=2", "stages=[embedding, block9]"], "'block9' is not a block"),
        (["pp=2", "stages=[block1, block2]"], "must begin with the first"),
        (["pp=3", "stages=[embedding, block2, block1]"], "follow the model's order"),
        (["pp=2", "stages=[block1, block1]"], "'block1' is not a block where another stage can begin"),
        (
            ["pp=2", "stages=even", "schedule=interleaved_1f1b", "num_stages_per_rank=3"],
            "plan.num_stages_per_rank: pp(2) * num_stages_per_rank(3) = 6 does not divide the 4 repeated blocks "
            "(remainder 4); legal neighbour: num_stages_per_rank 2",
        ),
        (
            ["pp=2", "schedule=interleaved_1f1b", "num_stages_per_rank=4"],
            "plan.num_stages_per_rank: pp(2) * num_stages_per_rank(4) = 8 stages, but gpt-tiny can be cut",
        ),
        (["pp=7", "stages=balanced"], "7 stages, but gpt-tiny can be cut into at most 6 blocks"),
    ],
)
def test_cuts_that_cannot_be(planned: Any, changes: list[str], message: str) -> None:
    devices = int(changes[0].removeprefix("pp="))
    assert message in refusal(planned, "gpt-tiny", devices, *changes)


def test_no_stage_begins_inside_a_tensor_parallel_region() -> None:
    changes = ["topology.node.count=4", "plan.tp=2", "plan.pp=2", "model.hidden_sizes=[16,16,16,16]"]
    stages = load("mlp-tiny", "local-cpu", "single", changes).program.stages
    for stage in stages:
        cuts = [node.shard for node in stage.nodes if node.shard is not Shard.NONE]
        assert cuts == [Shard.COLUMN, Shard.ROW]
