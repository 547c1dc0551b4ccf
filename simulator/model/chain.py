"""Building a layer graph node by node."""

from __future__ import annotations

from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.model.layers import Layer, Shape


class Chain:
    """Collects nodes one after the other; each reads the last one unless told otherwise."""

    def __init__(self, input_shape: Shape) -> None:
        self.input_shape = input_shape
        self.nodes: list[Node] = []
        self.last = INPUT

    def add(self, name: str, layer: Layer, *inputs: str, block: str = "") -> str:
        """Append a layer and return its name."""
        self.nodes.append(Node(name=name, layer=layer, inputs=inputs or (self.last,), block=block or name))
        self.last = name
        return name

    def graph(self, name: str, tokens_per_sample: int = 0) -> LayerGraph:
        """Return the finished graph."""
        return LayerGraph(
            name=name, input_shape=self.input_shape, nodes=tuple(self.nodes), tokens_per_sample=tokens_per_sample
        )
