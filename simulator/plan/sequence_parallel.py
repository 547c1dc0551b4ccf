"""Sequence parallelism as a rewriting of a tensor-parallel graph: between regions each rank has a part of the sequence.

Megatron's (Korthikanti et al. 2022, arXiv 2205.05198, section 4.2.2): what all ranks computed alike, norms, biases and
residual sums, each computes for its part. Before a region the parts are gathered (backward reduce-scatters the
gradient), behind it the sums are reduce-scattered (backward gathers): the same bytes as the all-reduces that they take
the place of. What was gathered is not kept for backward but gathered again. Parameters outside the regions see only
some of the tokens, so that their gradients are summed over the ranks at the end of the step.
"""

from __future__ import annotations

from dataclasses import replace

from simulator.errors import Problems
from simulator.model.graph import LayerGraph, Node, Shard
from simulator.model.layers import Dropout, Exchange, FirstTokens, GroupedLinear
from simulator.model.layers.exchange import NOTHING
from simulator.model.layers.vocabulary import Positions, VocabularyEmbedding
from simulator.plan.divisors import divisors, neighbours


def share_sequence(graph: LayerGraph, tp: int, problems: Problems) -> LayerGraph | None:
    """Return the graph of a rank that has one of ``tp`` parts of the sequence outside the regions, or report why not.

    Parameters
    ----------
    graph
        Of a tensor-parallel rank that shares the vocabulary: its embedding is summed over the ranks.
    tp
        Ranks of a group.
    problems
        Told what cannot be shared out.
    """
    if not any(isinstance(node.layer, VocabularyEmbedding) for node in graph.nodes):
        message = f"{graph.name} has no embedding and output projection between which its sequence could be shared out"
        problems.add("plan.sequence_parallel", message, "leave it out")
        return None
    if any(isinstance(node.layer, FirstTokens) for node in graph.nodes):
        message = f"the head of {graph.name} predicts some positions alone, which would lie on some ranks alone"
        problems.add("plan.sequence_parallel", message, "leave it out, or model.predictions_per_sequence")
        return None
    (sequence,) = graph.input_shape
    if sequence % tp:
        message = f"tp({tp}) does not divide the sequence of {sequence} (remainder {sequence % tp})"
        near = neighbours(tp, divisors(sequence))
        hint = f"legal neighbour: tp {near}, or sequence_length {' or '.join(_multiples(sequence, tp))}"
        problems.add("plan.sequence_parallel", message, hint)
        return None
    nodes = tuple(_shared(graph, node, tp) for node in graph.nodes)
    return replace(graph, nodes=nodes, _shapes={})


def _multiples(sequence: int, tp: int) -> list[str]:
    below = sequence // tp * tp
    return [str(size) for size in (below, below + tp) if size]


def _shared(graph: LayerGraph, node: Node, tp: int) -> Node:
    """Return a node of the rank; the numbers that the loss sums stay those of the whole sequence."""
    layer = node.layer
    if isinstance(layer, Exchange) and layer.axis == "tp" and node.name not in graph.fp32:
        if layer.forward == NOTHING:
            return replace(node, layer=replace(layer, forward="all_gather", backward="reduce_scatter", made_again=True))
        return replace(node, layer=replace(layer, forward="reduce_scatter", backward="all_gather"))
    if isinstance(layer, Positions | Dropout):
        node = replace(node, layer=replace(layer, num_parts=tp))
    if isinstance(layer, GroupedLinear):
        return node  # Whole experts are summed over their own replicas, wherever their rows came from.
    return replace(node, shard=Shard.SEQUENCE) if layer.parameters() and node.shard is Shard.NONE else node
