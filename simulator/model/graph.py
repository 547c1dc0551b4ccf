"""The layer graph: layers joined by the tensors that flow between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import networkx as nx

from simulator.model.layers.base import Layer, Phase, Shape
from simulator.model.layers.embedding import Embedding
from simulator.model.layers.exchange import NOTHING, Exchange
from simulator.model.layers.loss import CrossEntropy, Loss
from simulator.model.layers.vocabulary import VocabularyLoss
from simulator.model.module import ModuleSource

INPUT = "input"
"""Name of the graph's input tensor; every other tensor is called like the node that makes it."""


class Shard(StrEnum):
    """How a node's parameters are cut over the tensor-parallel ranks."""

    NONE = "none"
    COLUMN = "column"
    ROW = "row"
    HEADS = "heads"
    VOCABULARY = "vocabulary"
    SEQUENCE = "sequence"
    """Not cut, but every rank has its own part of the tokens, so that its gradients are partial sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One layer at its place in the graph.

    Parameters
    ----------
    name
        Unique name; also the name of the tensor that it makes.
    inputs
        Names of the tensors it reads, ``input`` for the graph's input.
    block
        The repeated unit (a transformer block, a residual unit) it belongs to. Pipeline stages are cut between blocks.
    origin
        Name of the layer as the user wrote it; the tensor-parallel rewriting may split one layer into two nodes.
    shard
        How the parameters were cut to get this rank's ``layer``.
    whole
        Rows of the whole parameters where they were filled up to be cut evenly; 0 where they were not.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    block: str = ""
    origin: str = ""
    shard: Shard = Shard.NONE
    whole: int = 0

    def parameter_name(self, parameter: str) -> str:
        """Return the parameter's name in the unsharded model."""
        return f"{self.origin or self.name}.{parameter}"


@dataclass(frozen=True, kw_only=True)
class LayerGraph:
    """A model: nodes in an order in which they can run, the last one being the loss.

    Parameters
    ----------
    name
        What the model is called in reports.
    input_shape
        Per-sample shape of the input.
    nodes
        Topologically ordered nodes.
    tokens_per_sample
        Sequence length of a language model, 0 where throughput is counted in samples.
    module
        The ``torch.nn.Module`` that this is the graph of, if it was imported.
    """

    name: str
    input_shape: Shape
    nodes: tuple[Node, ...]
    tokens_per_sample: int = 0
    module: ModuleSource | None = None
    _shapes: dict[str, Shape] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._shapes[INPUT] = self.input_shape
        for node in self.nodes:
            self._shapes[node.name] = node.layer.output_shape(self.input_shapes(node))

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    def shape(self, tensor: str) -> Shape:
        """Return the per-sample shape of a tensor."""
        return self._shapes[tensor]

    def input_shapes(self, node: Node) -> tuple[Shape, ...]:
        """Return the per-sample shapes a node reads."""
        return tuple(self._shapes[name] for name in node.inputs)

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each tensor, in order."""
        readers: dict[str, list[Node]] = {name: [] for name in (INPUT, *(node.name for node in self.nodes))}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    @cached_property
    def values(self) -> Mapping[str, str]:
        """For each tensor the one that it is: exchanges that do nothing forward only give it another name."""
        found = {INPUT: INPUT}
        for node in self.nodes:
            same = isinstance(node.layer, Exchange) and node.layer.forward == NOTHING
            found[node.name] = found[node.inputs[0]] if same else node.name
        return found

    @cached_property
    def gradients(self) -> Mapping[str, str]:
        """For each tensor the one whose gradient it shares: exchanges that do nothing backward hand theirs through."""
        found = {INPUT: INPUT}
        for node in self.nodes:
            same = isinstance(node.layer, Exchange) and node.layer.backward == NOTHING
            found[node.name] = found[node.inputs[0]] if same else node.name
        return found

    @cached_property
    def storages(self) -> Mapping[str, str]:
        """For each tensor the one in whose storage it lies: that of a view is its input's."""
        found = {INPUT: INPUT}
        for node in self.nodes:
            found[node.name] = found[node.inputs[0]] if node.layer.is_view else node.name
        return found

    @property
    def loss(self) -> Node:
        """The last node."""
        return self.nodes[-1]

    @property
    def integer_input(self) -> bool:
        """Whether the input is token ids."""
        if self.module:
            return self.module.is_integer
        return any(isinstance(node.layer, Embedding) for node in self.consumers[INPUT])

    @property
    def num_classes(self) -> int:
        """Number of target classes; 0 where the targets are real numbers."""
        if isinstance(self.loss.layer, VocabularyLoss):
            return self.loss.layer.vocab_size
        if self.module and self.module.target:
            return self.module.target.below
        return self.shape(self.loss.inputs[0])[-1] if isinstance(self.loss.layer, CrossEntropy) else 0

    @property
    def target_shape(self) -> Shape:
        """Per-sample shape of the targets."""
        assert isinstance(self.loss.layer, Loss)
        return self.loss.layer.target_shape(self.input_shapes(self.loss))

    @property
    def num_parameters(self) -> int:
        """Number of trainable scalars."""
        return sum(node.layer.num_parameters for node in self.nodes)

    def flops(self, phase: Phase, batch: int = 1) -> float:
        """Return the FLOPs of a phase for ``batch`` samples; the first layer's input gradient is never computed."""
        return sum(
            node.layer.flops(phase, self.input_shapes(node), batch)
            for node in self.nodes
            if phase is not Phase.INPUT_GRAD or self.needs_input_grad(node)
        )

    def needs_input_grad(self, node: Node) -> bool:
        """Return whether backward must go on past this node."""
        return self.trainable_inputs[node.name]

    @cached_property
    def trainable_inputs(self) -> Mapping[str, bool]:
        """For each node, whether any tensor it reads depends on a parameter."""
        return {node.name: any(self.trainable[name] for name in node.inputs) for node in self.nodes}

    @cached_property
    def trainable(self) -> Mapping[str, bool]:
        """For each tensor, whether it depends on a parameter, so that it has a gradient."""
        depends = {INPUT: False}
        for node in self.nodes:
            reads = bool(node.layer.parameters()) or any(depends[name] for name in node.inputs)
            depends[node.name] = reads and node.layer.has_gradient
        return depends

    @cached_property
    def fp32(self) -> frozenset[str]:
        """The tensors that are fp32 whatever the dtype."""
        found: set[str] = set()
        for node in self.nodes:
            if node.layer.makes_fp32 or (isinstance(node.layer, Exchange) and node.inputs[0] in found):
                found.add(node.name)
        return frozenset(found)

    @cached_property
    def twins(self) -> Mapping[str, str]:
        """For each node the first one that does the same: an equal layer on equal shapes, with the same gradients."""
        first: dict[tuple[Layer, tuple[Shape, ...], bool], str] = {}
        return {
            node.name: first.setdefault((node.layer, self.input_shapes(node), self.needs_input_grad(node)), node.name)
            for node in self.nodes
        }


def order(edges: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return node names in topological order, as near to the given order as the edges allow.

    Parameters
    ----------
    edges
        For each node, in the order written, the names it reads.

    Raises
    ------
    ValueError
        A cycle; the message shows it.
    """
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(edges)
    graph.add_edges_from((source, name) for name, inputs in edges.items() for source in inputs if source in edges)
    rank = {name: position for position, name in enumerate(edges)}
    try:
        return list(nx.lexicographical_topological_sort(graph, key=rank.__getitem__))
    except nx.NetworkXUnfeasible:
        cycle = [source for source, _ in nx.find_cycle(graph)]
        raise ValueError(" -> ".join([*cycle, cycle[0]])) from None
