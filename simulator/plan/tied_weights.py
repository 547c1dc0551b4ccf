"""Heads tied to an embedding that stands in another pipeline stage."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import replace

from simulator.model.graph import LayerGraph, Node
from simulator.model.layers import Linear


def copy_tied_weights(graph: LayerGraph, cuts: Sequence[int]) -> LayerGraph:
    """Return the graph with a copy of each weight that is used in another stage than its own, as Megatron keeps it.

    The copies' gradients would have to be summed over the two stages; that message is not modelled, and the executor
    refuses such a plan.

    Parameters
    ----------
    graph
        Of one tensor-parallel rank.
    cuts
        Index of the first node of each stage.
    """
    stage = {node.name: bisect(cuts, index) for index, node in enumerate(graph.nodes)}

    def copied(node: Node) -> Node:
        layer = node.layer
        if not isinstance(layer, Linear) or not layer.weight_of or stage[layer.weight_of] == stage[node.name]:
            return node
        return replace(node, layer=replace(layer, copies=True))

    nodes = tuple(map(copied, graph.nodes))
    return replace(graph, nodes=nodes, _shapes={}) if nodes != graph.nodes else graph
