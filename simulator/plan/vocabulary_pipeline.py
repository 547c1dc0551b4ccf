"""The vocabulary over the ranks of a pipeline: every rank has a part of the embedding and of the output projection.

Vocabulary parallelism (Yeung et al. 2024, arXiv 2411.05288), its algorithm 1: the ends of a language model leave the
first and the last stage, which they make longer than the others, and become stages that all ranks share. The last
block's output is handed to every rank, each makes its logits and three numbers a position of them; once these have been
summed, each knows the loss, and its part of the gradient, which is summed for the last block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simulator.errors import Problems
from simulator.model.graph import LayerGraph, Node, Shard
from simulator.model.layers import Embedding, Exchange, Linear
from simulator.model.layers.exchange import NOTHING
from simulator.model.layers.vocabulary import Positions, StatisticsLoss, VocabularyEmbedding, VocabularyStatistics
from simulator.plan.plan import Plan
from simulator.plan.vocabulary_parallel import rows_of, vocabulary_of


def check_pipelined_vocabulary(graph: LayerGraph, plan: Plan, pipelines: int, problems: Problems) -> bool:
    """Return whether the ranks of a pipeline can share the vocabulary, or report why not."""
    ends = vocabulary_of(graph)
    key, hint = "plan.vocab_parallel", "leave vocab_parallel out"
    if ends is None:
        problems.add(key, f"{graph.name} has no vocabulary that the ranks of a pipeline could share", hint)
    elif getattr(ends[1].layer, "weight_of", ""):
        message = f"{ends[1].name} is tied to {ends[0].name}, and their parts belong to stages of their own"
        problems.add(key, message, "set model.tie_embeddings: false, or leave vocab_parallel out")
    elif pipelines > 1:
        problems.add(key, f"{plan.schedule} keeps {pipelines} copies of the stages, and ranks would share each", hint)
    else:
        return True
    return False


def share_vocabulary(
    graph: LayerGraph, cuts: Sequence[int], placement: Sequence[int], ranks: int
) -> tuple[LayerGraph, tuple[int, ...]]:
    """Return the graph of one of the ranks of a pipeline, and the first node of each stage, shared ones included.

    Parameters
    ----------
    graph, cuts
        The model, and the first node of each stage of the pipeline.
    placement
        Rank of each of these stages.
    ranks
        How many share.
    """
    ends = vocabulary_of(graph)
    assert ends
    table, head = ends
    made = {
        table.name: _embedding(table, ranks, placement[0]),
        head.name: _logits(head, ranks, placement[-1], graph.num_classes),
        graph.loss.name: [
            replace(
                graph.loss,
                layer=StatisticsLoss(vocab_size=graph.num_classes),
                inputs=(f"{head.name}+statistics+g",),
            )
        ],
    }
    renamed = {table.name: made[table.name][-1].name}
    nodes = [
        replace(each, inputs=tuple(renamed.get(name, name) for name in each.inputs)) if each is node else each
        for node in graph.nodes
        for each in made.get(node.name, [node])
    ]
    places = {node.name: place for place, node in enumerate(nodes)}
    # The first stage begins behind the embedding's sum.
    starts = [places[f"{table.name}+g"] + 1, *(places[graph.nodes[cut].name] for cut in cuts[1:])]
    starts = [0, *starts, places[f"{head.name}+f"], places[graph.loss.name]]
    return replace(graph, nodes=tuple(nodes), _shapes={}), tuple(starts)


def _embedding(table: Node, ranks: int, root: int) -> list[Node]:
    """Return the lookup of a rank's rows, and the sum over the ranks; its gradient comes from the first stage."""
    layer = table.layer
    assert isinstance(layer, Embedding)
    own = VocabularyEmbedding(vocab_size=layer.vocab_size, hidden=layer.hidden, rows=rows_of(layer.vocab_size, ranks))
    local = replace(table, layer=own, shard=Shard.VOCABULARY, whole=layer.vocab_size)
    together = Exchange(axis="pp", forward="all_reduce", backward="broadcast", num_ranks=ranks, root=root)
    nodes = [local, Node(name=f"{table.name}+g", layer=together, inputs=(table.name,), block=table.block)]
    if layer.positions or layer.token_types:
        added = Positions(hidden=layer.hidden, positions=layer.positions, token_types=layer.token_types)
        name = f"{table.name}+positions"
        nodes.append(Node(name=name, layer=added, inputs=(nodes[-1].name,), block=table.block, origin=table.name))
    return nodes


def _logits(head: Node, ranks: int, root: int, size: int) -> list[Node]:
    """Return what brings the last block's output, a rank's logits, and what is summed of them."""
    layer = head.layer
    assert isinstance(layer, Linear)
    handed = Exchange(axis="pp_root", forward="broadcast", backward="all_reduce", num_ranks=ranks, root=root)
    before = Node(name=f"{head.name}+f", layer=handed, inputs=head.inputs, block=head.block)
    cut = replace(layer, out_features=rows_of(layer.out_features, ranks))
    local = replace(head, layer=cut, inputs=(before.name,), shard=Shard.VOCABULARY, whole=layer.out_features)
    statistics = Node(
        name=f"{head.name}+statistics",
        layer=VocabularyStatistics(vocab_size=size, num_ranks=ranks),
        inputs=(head.name,),
        block=head.block,
    )
    together = Exchange(axis="pp", forward="all_reduce", backward=NOTHING, num_ranks=ranks)
    joined = Node(name=f"{statistics.name}+g", layer=together, inputs=(statistics.name,), block=head.block)
    return [before, local, statistics, joined]
