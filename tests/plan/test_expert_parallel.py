"""Expert parallelism as a rewriting of the graph."""

from typing import Any

import pytest

from simulator.errors import InputError
from simulator.model.layers import ExpertExchange, GroupedLinear
from simulator.program import Instruction, Kind

MODELS = [("mixtral-8x7b", 4), ("deepseek-v2-lite", 8)]
ONE = "microbatch_size=1"
SMALL = "model.num_hidden_layers=2"
EXPERTS = ("block0.experts1", "block0.experts2")


def exchanges(inputs: Any) -> list[Any]:
    return [node for node in inputs.program.graph.nodes if isinstance(node.layer, ExpertExchange)]


@pytest.mark.parametrize(("model", "ep"), MODELS)
def test_ranks_hold_the_whole_model_together(planned: Any, model: str, ep: int) -> None:
    inputs = planned(model, ep, f"ep={ep}", SMALL)
    found = {node.name: node.layer for node in inputs.program.graph.nodes if not isinstance(node.layer, ExpertExchange)}
    assert found.keys() == {node.name for node in inputs.graph.nodes}
    for node in inputs.graph.nodes:
        times = ep if isinstance(node.layer, GroupedLinear) else 1
        assert found[node.name].num_parameters * times == node.layer.num_parameters


@pytest.mark.parametrize("tp", [1, 2])
def test_rows_travel_behind_dispatch_and_before_combine(planned: Any, tp: int) -> None:
    """4096 tokens, two rows of 4096 features in fp32 each, four times a layer; the same bytes whatever tp cuts."""
    inputs = planned("mixtral-8x7b", 4 * tp, "ep=4", f"tp={tp}", ONE, "model.num_hidden_layers=1")
    graph, program = inputs.program.graph, inputs.program
    there, back = exchanges(inputs)
    assert (there.inputs, back.inputs) == (("block0.dispatch",), ("block0.experts2",))
    assert graph.by_name["block0.combine"].inputs[0] == back.name
    (stage,) = program.stages
    moved = [
        program.message(Instruction(kind, 0, 0, part))
        for part, segment in enumerate(stage.segments)
        if isinstance(segment.exchange, ExpertExchange)
        for kind in (segment.forward, segment.backward)
    ]
    assert [(each.operation, each.size) for each in moved] == [("all_to_all", 4096 * 2 * 4096 * 4)] * 4


def test_the_work_of_all_ranks_is_that_of_the_model(planned: Any) -> None:
    inputs = planned("mixtral-8x7b", 4, "ep=4", SMALL)
    local = inputs.program.graph
    for node in inputs.graph.nodes:
        mine = local.by_name[node.name]
        assert mine.layer.flops("F", local.input_shapes(mine)) == node.layer.flops("F", inputs.graph.input_shapes(node))


def test_the_busiest_rank_has_more_rows_and_all_wait_for_it(planned: Any) -> None:
    even, uneven = (
        planned("mixtral-8x7b", 4, "ep=4", SMALL, ONE, f"model.load_imbalance={each}").program for each in (1, 1.25)
    )
    for name in ("block0.dispatch+ep", "block0.experts1", "block0.experts_glu", "block0.experts2"):
        assert uneven.graph.shape(name)[0] == 1.25 * even.graph.shape(name)[0]
    assert uneven.graph.shape("block0.combine+ep") == even.graph.shape("block0.combine+ep")
    (there, back) = (uneven.graph.by_name[f"block0.{name}+ep"] for name in ("dispatch", "combine"))
    for node in (there, back):
        assert uneven.tensor_bytes((*node.inputs, node.name)) == pytest.approx(8192 * 2.25 * 4096 * 4)


def test_experts_are_reduced_over_their_own_replicas(planned: Any) -> None:
    inputs = planned("mixtral-8x7b", 8, "ep=4", SMALL)
    buckets = inputs.program.stages[0].buckets
    experts = [bucket for bucket in buckets if bucket.axis == "dp_expert"]
    assert sum(bucket.elements for bucket in experts) == 2 * 2 * 3 * 4096 * 14336
    assert {bucket.reduction for bucket in experts} == {Kind.REDUCE_EXPERT_GRAD}
    alone = planned("mixtral-8x7b", 4, "ep=4", SMALL).program.stages[0].buckets
    assert not [bucket for bucket in alone if bucket.axis == "dp_expert"], "an expert on one rank has no replicas"


def test_sharded_experts_are_gathered_from_their_own_replicas(planned: Any) -> None:
    inputs = planned("mixtral-8x7b", 8, "ep=4", "sharding=fsdp", "num_microbatches=1", SMALL)
    program, (stage,) = inputs.program, inputs.program.stages
    experts = {index: bucket for index, bucket in enumerate(stage.buckets) if bucket.axis == "dp_expert"}
    assert [bucket.elements for bucket in experts.values()] == [2 * 3 * 4096 * 14336] * 2
    gathered = [each for each in program.lists[0] if each.kind is Kind.UNSHARD_EXPERT]
    assert {each.part for each in gathered} == {*experts}
    for each in gathered:
        assert program.peers(5, each) == (1, 5)
        assert program.message(each).size == 4 * 2 * 3 * 4096 * 14336
    dense = sum(bucket.elements for bucket in stage.buckets if bucket.axis == "dp")
    assert program.updated_parameters(0) == dense // 8 + 2 * 2 * 3 * 4096 * 14336 // 2
    whole = stage.num_parameters - sum(
        node.layer.num_parameters for b in experts.values() for node in stage.nodes if node.name in b.nodes
    )
    assert 0 <= dense - whole < 8 * len(stage.buckets)


def test_an_expert_that_one_rank_has_alone_stays_whole(planned: Any) -> None:
    program = planned("mixtral-8x7b", 8, "ep=8", "sharding=fsdp", SMALL).program
    assert not any(each.kind is Kind.UNSHARD_EXPERT for each in program.lists[0])
    experts = sum(node.layer.num_parameters for node in program.graph.nodes if isinstance(node.layer, GroupedLinear))
    assert program.updated_parameters(0) > experts == 2 * 3 * 4096 * 14336


FOLDED = ("tp=2", "sequence_parallel=true", "expert_tp=1", SMALL)


@pytest.mark.parametrize("ep", [1, 2, 4, 8])
def test_folded_ranks_hold_whole_experts_and_their_own_tokens(planned: Any, ep: int) -> None:
    """8 ranks in 4 pairs: an expert is on 8 / ep of them; the router sees half of the sequence on each."""
    inputs = planned("mixtral-8x7b", 8, f"ep={ep}", ONE, *FOLDED)
    program, graph = inputs.program, inputs.program.graph
    experts = graph.by_name["block0.experts1"].layer
    assert experts.num_parameters * ep == inputs.graph.by_name["block0.experts1"].layer.num_parameters
    assert graph.shape("block0.router") == (2048, 8)
    work = {name: graph.by_name[name].layer.flops("F", graph.input_shapes(graph.by_name[name])) for name in EXPERTS}
    whole = {node.name: node.layer.flops("F", inputs.graph.input_shapes(node)) for node in inputs.graph.nodes}
    assert {name: 2 * flops for name, flops in work.items()} == {name: whole[name] for name in EXPERTS}
    replicas = program.group(0, "dp_expert")
    assert (program.group(0, "ep"), len(replicas)) == (tuple(range(ep)), 8 // ep)
    assert "block0.experts1" not in {node.name for node in program.stages[0].partial}
    assert [tuple(each) for each in program.group_table("ep").tolist()] == program.groups("ep")
    assert sorted(tuple(each) for each in program.group_table("dp_expert").tolist()) == sorted(
        program.groups("dp_expert")
    )


def test_a_dispatch_moves_each_token_once(planned: Any) -> None:
    """Half of the bytes of an all-to-all with two experts a token."""
    inputs = planned("mixtral-8x7b", 4, "ep=4", "expert_dispatch=deep_ep", ONE, "model.num_hidden_layers=1")
    (stage,) = inputs.program.stages
    moved = [
        inputs.program.message(Instruction(segment.forward, 0, 0, part))
        for part, segment in enumerate(stage.segments)
        if isinstance(segment.exchange, ExpertExchange)
    ]
    assert [(each.operation, each.size) for each in moved] == [("dispatch:2/8", 4096 * 4096 * 4)] * 2


@pytest.mark.parametrize("imbalance", [1.1, 1.3, 2.7])
@pytest.mark.parametrize("rows", [1, 24, 999, 8191])
def test_rows_come_back_as_many_as_went(rows: int, imbalance: float) -> None:
    options = {"axis": "ep", "forward": "all_to_all", "backward": "all_to_all", "num_ranks": 4}
    there = ExpertExchange(**options, load_imbalance=imbalance)
    back = ExpertExchange(**options, load_imbalance=imbalance, returns=True)
    assert back.output_shape((there.output_shape(((rows, 8),)),)) == (rows, 8)


@pytest.mark.parametrize(
    ("model", "ranks", "changes", "message"),
    [
        ("mixtral-8x7b", 16, ("ep=16",), "16 does not divide the experts of block0.experts1 = 8 .*ep 8"),
        ("llama3-8b", 8, ("ep=8",), "no layer of llama3-8b is split by expert parallelism; leave ep out"),
        (
            "mixtral-8x7b",
            8,
            ("ep=2", "sharding=hsdp", "dp_shard=4"),
            r"an expert's dp \* cp / ep = 4 replicas are 2 ranks apart; set sharding: fsdp",
        ),
        ("mixtral-8x7b", 8, ("tp=2", "ep=8"), r"8 does not divide dp\(4\) \* cp\(1\) = 4 .*ep 4, or expert_tp: 1"),
        ("mixtral-8x7b", 8, ("tp=2", "expert_tp=1"), "without sequence_parallel they have the same tokens"),
        ("mixtral-8x7b", 8, ("tp=4", "expert_tp=2"), r"2 is neither 1 nor tp\(4\)"),
        ("mixtral-8x7b", 6, ("ep=4", *FOLDED[:3]), r"4 does not divide dp\(3\) \* cp\(1\) \* tp\(2\) = 6"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(
    planned: Any, model: str, ranks: int, changes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        planned(model, ranks, *changes, SMALL)
