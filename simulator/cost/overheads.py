"""What a framework adds to the kernels of a layer: bytes that fused kernels would not move, products' fp32 sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simulator.model.graph import LayerGraph, Node
from simulator.model.layers import CrossEntropy
from simulator.model.layers.base import Kernel, Phase, count, memory
from simulator.model.layers.vocabulary import VocabularySum
from simulator.plan.frameworks import Framework


def framework_kernels(
    graph: LayerGraph,
    node: Node,
    phase: Phase,
    batch: int,
    itemsize: int,
    framework: Framework,
    gradient_itemsize: int | None = None,
) -> Iterator[Kernel]:
    """Yield the kernels of one phase of a layer as a framework runs them.

    Parameters
    ----------
    graph, node, phase
        What is run.
    batch
        Samples of a micro-batch.
    itemsize
        Bytes of an element of the plan's dtype.
    framework
        What is added; nothing by `none`, and never less than nothing.
    gradient_itemsize
        Bytes of an element of a gradient that is summed up over micro-batches; those of the dtype if absent.
    """
    inputs = graph.input_shapes(node)
    least = 0.0
    if isinstance(node.layer, CrossEntropy | VocabularySum):
        logits = batch * count(inputs[0])
        least = framework.loss[phase is not Phase.FORWARD] * logits / itemsize
        if isinstance(node.layer, VocabularySum) and phase is Phase.FORWARD:
            # Where ranks share the logits, finding the largest has read them once already.
            least -= framework.elementwise * logits
    for kernel in node.layer.kernels(phase, inputs, batch):
        if kernel.kind == "memory":
            yield replace(kernel, elements=max(kernel.elements * framework.elementwise, least))
        else:
            yield kernel
    moved = framework.accumulation.bytes(gradient_itemsize or itemsize, itemsize)
    if phase is Phase.WEIGHT_GRAD and moved and node.layer.num_parameters:
        yield memory(moved * node.layer.num_parameters / itemsize)
