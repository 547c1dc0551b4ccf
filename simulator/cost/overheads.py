"""What a framework adds to the kernels of a layer: bytes that fused kernels would not move, products' fp32 sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simulator.cost.convolutions import convolution_kernels
from simulator.model.graph import LayerGraph, Node
from simulator.model.layers import Conv2d, CrossEntropy, Embedding, Qkv
from simulator.model.layers.base import Kernel, Phase, count, matmul, memory
from simulator.model.layers.vocabulary import VocabularySum
from simulator.plan.frameworks import Framework


def framework_kernels(
    graph: LayerGraph,
    node: Node,
    phase: Phase,
    batch: int,
    dtype: str,
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
    dtype, itemsize
        The plan's dtype, and the bytes of an element.
    framework
        What is added; nothing by `none`, and never less than nothing.
    gradient_itemsize
        Bytes of an element of a gradient that is summed up over micro-batches; those of the dtype if absent.
    """
    inputs = graph.input_shapes(node)
    if isinstance(node.layer, Conv2d):
        yield from convolution_kernels(node.layer, phase, inputs, batch, dtype, framework)
        return
    if framework.one_hot and isinstance(node.layer, Embedding) and phase is not Phase.INPUT_GRAD:
        yield from _one_hot_kernels(node.layer, phase, batch * count(inputs[0]))
        return
    # Layers of images are counted as libraries run them, a kernel each; those of transformers as if they were fused.
    wider = framework.elementwise if graph.tokens_per_sample else 1.0
    least = 0.0
    if isinstance(node.layer, CrossEntropy | VocabularySum):
        logits = batch * count(inputs[0])
        least = framework.loss[phase is not Phase.FORWARD] * logits / itemsize
        if isinstance(node.layer, VocabularySum) and phase is Phase.FORWARD:
            # Where ranks share the logits, finding the largest has read them once already.
            least -= wider * logits
    for kernel in node.layer.kernels(phase, inputs, batch):
        if kernel.kind == "memory":
            yield replace(kernel, elements=max(kernel.elements * wider, least))
        else:
            yield kernel
    moved = framework.accumulation.bytes(gradient_itemsize or itemsize, itemsize)
    if phase is Phase.WEIGHT_GRAD and moved and node.layer.num_parameters:
        yield replace(memory(moved * node.layer.num_parameters / itemsize), kind="accumulation")
    if framework.adds_bias and isinstance(node.layer, Qkv) and node.layer.bias and phase is Phase.FORWARD:
        yield memory(2 * batch * count(inputs[0][:-1]) * node.layer.width)


def _one_hot_kernels(layer: Embedding, phase: Phase, tokens: int) -> Iterator[Kernel]:
    """Yield the rows of zeros with a one, and their product with the table, or with the gradient of what was made."""
    yield memory(tokens * layer.vocab_size)
    if phase is Phase.FORWARD:
        yield matmul(tokens, layer.hidden, layer.vocab_size)
    else:
        yield matmul(layer.vocab_size, layer.hidden, tokens)
