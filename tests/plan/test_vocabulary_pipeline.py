"""The vocabulary over the ranks of a pipeline, as a rewriting of the graph and as passes in a schedule."""

from collections import Counter
from typing import Any

import pytest

from simulator.errors import InputError, ProgramError
from simulator.model import Phase
from simulator.program import Kind, Program, verify
from simulator.program.schedules import SCHEDULES, Options
from simulator.program.vocabulary_passes import SHARED, with_vocabulary
from tests.program.schedules.list_scheduler import peak

SHARES = ("vocab_parallel=pipeline", "num_microbatches=8", "microbatch_size=1", "model.num_hidden_layers=8")


def shared(planned: Any, *changes: str, pp: int = 4) -> Program:
    return planned("gpt-tiny", pp, f"pp={pp}", *SHARES, *changes).program


@pytest.mark.parametrize("phase", Phase)
def test_ranks_make_all_logits_together(planned: Any, phase: Phase) -> None:
    whole = planned("gpt-tiny", 4, "pp=4", "model.num_hidden_layers=8", "model.vocab_size=1024").program.graph
    part = shared(planned, "model.vocab_size=1024").graph
    one, own = (
        graph.by_name["head"].layer.flops(phase, graph.input_shapes(graph.by_name["head"])) for graph in (whole, part)
    )
    assert own * 4 == one
    assert part.by_name["embedding"].layer.num_parameters * 4 == 1024 * 256


@pytest.mark.parametrize(("schedule", "last"), [("1f1b", 3), ("v_half", 0)])
def test_every_rank_has_the_shared_stages_and_their_exchanges_begin_where_the_model_does(
    planned: Any, schedule: str, last: int
) -> None:
    program = shared(planned, f"schedule={schedule}")
    assert program.placement[0] == SHARED
    assert program.placement[-2:] == (SHARED, SHARED)
    for rank in range(4):
        indices = {stage.index for stage in program.stages_of(rank)}
        assert {0, len(program.stages) - 2, len(program.stages) - 1} < indices
    (given,) = (node.layer for node in program.graph.nodes if node.name == "head+f")
    assert (given.forward, given.backward, given.root) == ("broadcast", "all_reduce", last)
    whole, statistics = 128 * 256 * 4.0, 128 * 4 * 3 * 4.0
    moved = {
        (each.kind, (message := program.message(each)).operation, message.size)
        for each in program.lists[1]
        if each.kind in (Kind.PP_F, Kind.PP_B, Kind.ROOT_F, Kind.ROOT_B)
    }
    assert moved == {
        (Kind.PP_F, "all_reduce", whole),
        (Kind.PP_F, "all_reduce", statistics),
        (Kind.PP_B, "broadcast", whole),
        (Kind.ROOT_F, "broadcast", whole),
        (Kind.ROOT_B, "all_reduce", whole),
    }


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved_1f1b", "zb_h1", "zbv", "v_half", "looped_bfs"])
def test_each_rank_runs_each_pass_once_in_the_same_order_as_all_others(schedule: str) -> None:
    kind = SCHEDULES[schedule]
    for p, m in ((2, 3), (3, 8), (4, 16)):
        made = with_vocabulary(kind.build(p, m, Options(num_stages_per_rank=kind.usual_stages_per_rank)), m)
        ends = {stage for stage, rank in enumerate(made.placement) if rank == SHARED}
        passes = [[action for action in order if action.stage in ends] for order in made.orders]
        assert all(order == passes[0] for order in passes)
        counts = Counter(passes[0])
        assert set(counts.values()) == {1}
        assert len(counts) == 6 * m, "forward and backward of the embedding, the logits and the loss"


@pytest.mark.parametrize(("p", "m"), [(2, 8), (4, 16), (8, 24)])
def test_1f1b_holds_two_micro_batches_more(p: int, m: int) -> None:
    """Yeung et al. 2024, arXiv 2411.05288, section 5: activations of p + 2 micro-batches in place of p."""
    made = with_vocabulary(SCHEDULES["1f1b"].build(p, m, Options()), m)
    inner = [tuple(action for action in order if 0 < action.stage <= p) for order in made.orders]
    assert [peak(order) for order in inner] == [p - rank + 2 for rank in range(p)]


def test_exchanges_in_another_order_are_found(planned: Any) -> None:
    program = shared(planned)
    order = list(program.lists[2])
    first, second = [each for each in order if each.kind is Kind.ROOT_F][:2]
    order.remove(second)
    order.insert(order.index(first), second)
    lists = (*program.lists[:2], tuple(order), *program.lists[3:])
    with pytest.raises(ProgramError, match="is out of turn with"):
        verify(program.lowered(next(iter(program.passes)), lists))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("pp=1",), r"plan.vocab_parallel: the ranks of a pipeline share the vocabulary, and pp\(1\) has one"),
        (("pp=2", "tp=2"), r"shared by the ranks of a pipeline alone, not with tp\(2\); set tp 1"),
        (("pp=2", "recompute=full"), "what ranks share cannot run forward again; set recompute: none"),
        (("pp=2", "sharding=fsdp"), "fsdp reduces or gathers a stage's parameters at its own time"),
        (("pp=2", "schedule=chimera", "num_microbatches=4"), "chimera keeps 2 copies of the stages"),
        (("pp=2", "model.tie_embeddings=true"), "head is tied to embedding"),
    ],
)
def test_what_cannot_be_shared_is_said(planned: Any, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        planned("gpt-tiny", 4, "vocab_parallel=pipeline", *changes)


def test_a_model_without_a_vocabulary_has_nothing_to_share(planned: Any) -> None:
    with pytest.raises(InputError, match="has no vocabulary that the ranks of a pipeline could share"):
        planned("mlp-tiny", 2, "pp=2", "vocab_parallel=pipeline")
