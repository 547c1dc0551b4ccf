"""Vocabulary parallelism as a rewriting of the graph: embedding, output projection and loss of one rank.

Megatron's (Shoeybi et al. 2019, arXiv 1909.08053, section 3): a rank has some rows of the token table, whose sums over
the ranks are the embedding, and some columns of the output projection. The logits are never gathered: the ranks sum
three numbers a position, the largest logit, the exponentials and the target's logit. The vocabulary is filled up to a
multiple of 128 rows a rank, as Megatron's ``--make-vocab-size-divisible-by`` does; no token is one of those, and they
have no part in the loss.
"""

from __future__ import annotations

import math
from dataclasses import replace

from simulator.model.graph import INPUT, LayerGraph, Node, Shard
from simulator.model.layers import CrossEntropy, Embedding, Exchange, Linear
from simulator.model.layers.exchange import NOTHING
from simulator.model.layers.vocabulary import (
    Positions,
    VocabularyEmbedding,
    VocabularyLoss,
    VocabularyMax,
    VocabularySum,
    VocabularyTarget,
)

MULTIPLE = 128
"""Rows of which every rank has a multiple: Megatron's default (megatron/training/arguments.py)."""


def cut_vocabulary(graph: LayerGraph, tp: int) -> LayerGraph:
    """Return the graph of one rank of ``tp``; a model without a vocabulary stays as it is."""
    ends = vocabulary_of(graph)
    if tp == 1 or ends is None:
        return graph
    table, head = ends
    made = {table.name: _embedding(table, tp), head.name: _head(head, tp), graph.loss.name: _loss(graph, tp)}
    renamed = {table.name: made[table.name][-1].name}
    nodes = [
        replace(each, inputs=tuple(renamed.get(name, name) for name in each.inputs)) if each is node else each
        for node in graph.nodes
        for each in made.get(node.name, [node])
    ]
    return replace(graph, nodes=tuple(nodes), _shapes={})


def vocabulary_of(graph: LayerGraph) -> tuple[Node, Node] | None:
    """Return a language model's embedding and output projection, None where there are none to be cut."""
    head = graph.by_name.get(graph.loss.inputs[0])
    tables = [node for node in graph.consumers[INPUT] if isinstance(node.layer, Embedding)]
    if not isinstance(graph.loss.layer, CrossEntropy) or not head or not isinstance(head.layer, Linear):
        return None
    return (tables[0], head) if len(tables) == 1 and len(graph.consumers[head.name]) == 1 else None


def rows_of(vocab_size: int, tp: int) -> int:
    """Return the rows of one rank, padding included."""
    return math.ceil(vocab_size / (MULTIPLE * tp)) * MULTIPLE


def _sum(name: str, source: Node, tp: int, maximum: bool = False) -> Node:
    """Return the exchange behind a node: the ranks' results are summed, each has the whole gradient already."""
    layer = Exchange(axis="tp", forward="all_reduce", backward=NOTHING, num_ranks=tp, maximum=maximum)
    return Node(name=name, layer=layer, inputs=(source.name,), block=source.block)


def _embedding(table: Node, tp: int) -> list[Node]:
    layer = table.layer
    assert isinstance(layer, Embedding)
    rows = rows_of(layer.vocab_size, tp)
    own = VocabularyEmbedding(vocab_size=layer.vocab_size, hidden=layer.hidden, rows=rows)
    local = replace(table, layer=own, shard=Shard.VOCABULARY, whole=layer.vocab_size)
    nodes = [local, _sum(f"{table.name}+g", local, tp)]
    if layer.positions or layer.token_types:
        added = Positions(hidden=layer.hidden, positions=layer.positions, token_types=layer.token_types)
        inputs, name = (nodes[-1].name,), f"{table.name}+positions"
        nodes.append(Node(name=name, layer=added, inputs=inputs, block=table.block, origin=table.name))
    return nodes


def _head(head: Node, tp: int) -> list[Node]:
    layer = head.layer
    assert isinstance(layer, Linear)
    f = Exchange(axis="tp", forward=NOTHING, backward="all_reduce", num_ranks=tp)
    before = Node(name=f"{head.name}+f", layer=f, inputs=head.inputs, block=head.block)
    cut = replace(layer, out_features=rows_of(layer.out_features, tp))
    return [
        before,
        replace(head, layer=cut, inputs=(before.name,), shard=Shard.VOCABULARY, whole=layer.out_features),
    ]


def _loss(graph: LayerGraph, tp: int) -> list[Node]:
    """Return what makes the loss from a rank's logits: three sums of one number a position, and what joins them."""
    loss, size = graph.loss, graph.num_classes
    (logits,) = loss.inputs

    def node(part: str, layer: VocabularyMax | VocabularySum | VocabularyTarget, *inputs: str) -> Node:
        return Node(name=f"{loss.name}+{part}", layer=layer, inputs=(logits, *inputs), block=loss.block)

    largest = node("max", VocabularyMax(vocab_size=size))
    of_all = _sum(f"{largest.name}+g", largest, tp, maximum=True)
    total = node("sum", VocabularySum(vocab_size=size), of_all.name)
    target = node("target", VocabularyTarget(vocab_size=size), of_all.name)
    sums = [_sum(f"{each.name}+g", each, tp) for each in (total, target)]
    joined = replace(loss, layer=VocabularyLoss(vocab_size=size), inputs=tuple(each.name for each in sums))
    return [largest, of_all, total, target, *sums, joined]
