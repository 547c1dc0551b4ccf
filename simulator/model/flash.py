"""Whether attention is fused is a choice of the plan: the same model with it or without."""

from __future__ import annotations

from dataclasses import replace

from simulator.model.graph import LayerGraph
from simulator.model.layers import Attention, LatentAttention


def with_flash(graph: LayerGraph, flash: bool) -> LayerGraph:
    """Return the graph with every attention core fused, or with none."""
    nodes = tuple(
        replace(node, layer=replace(node.layer, flash=flash))
        if isinstance(node.layer, Attention | LatentAttention)
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes, _shapes={})
