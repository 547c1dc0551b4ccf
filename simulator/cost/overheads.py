"""What a framework adds to the kernels of a layer: bytes that fused kernels would not move, products' fp32 sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simulator.cost.convolutions import convolution_kernels
from simulator.model.graph import LayerGraph, Node
from simulator.model.layers import (
    Add,
    Attention,
    Bias,
    Conv2d,
    CrossEntropy,
    Dropout,
    Embedding,
    Glu,
    Linear,
    Norm,
    Qkv,
)
from simulator.model.layers.base import FLOAT_BYTES, Kernel, Layer, Phase, Shape, count, matmul, memory
from simulator.model.layers.dropout import MASK_ELEMENTS
from simulator.model.layers.vocabulary import VocabularySum
from simulator.plan.frameworks import Framework

LONGEST_SOFTMAX = 4096
"""Keys of a row that Megatron's softmax takes (model/fused_softmax.py, is_kernel_available)."""


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
        What is added, nothing by `none`; one that fuses what stands between two blocks moves less.
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
    if framework.fuses_residual and phase is Phase.FORWARD and _joins_stream(graph, node):
        return
    # Layers of images are counted as libraries run them, a kernel each; those of transformers as if they were fused.
    wider = framework.elementwise if graph.tokens_per_sample else 1.0
    least = _unfused(node.layer, phase, batch * count(inputs[0]), framework) / itemsize
    if isinstance(node.layer, VocabularySum) and phase is Phase.FORWARD:
        # Where ranks share the logits, finding the largest has read them once already.
        least -= wider * batch * count(inputs[0])
    masks = _masks(graph, node) * batch * count(inputs[0]) if framework.fuses_residual and phase is Phase.FORWARD else 0
    softmax, in_its_place = _softmax_apart(node.layer, phase, inputs, batch, framework, itemsize)
    for kernel in node.layer.kernels(phase, inputs, batch):
        if kernel == softmax:
            yield from in_its_place
        elif kernel.kind == "memory":
            yield replace(kernel, elements=max((kernel.elements + masks) * wider, least))
        else:
            yield kernel
    moved = framework.accumulation.bytes(gradient_itemsize or itemsize, itemsize)
    if phase is Phase.WEIGHT_GRAD and moved and node.layer.num_parameters:
        yield replace(memory(moved * node.layer.num_parameters / itemsize), kind="accumulation")
    parts = len(node.layer.parts("weight")) if isinstance(node.layer, Qkv | Linear) else 1
    if framework.splits_projections and parts > 1 and phase is Phase.INPUT_GRAD:
        yield memory(3 * (parts - 1) * batch * count(inputs[0]))
    if framework.adds_bias and isinstance(node.layer, Qkv) and node.layer.bias and phase is Phase.FORWARD:
        yield memory(2 * batch * count(inputs[0][:-1]) * node.layer.width)


def _joins_stream(graph: LayerGraph, node: Node) -> bool:
    """Return whether a node is a bias or a dropout behind which nothing comes but an addition."""
    readers = graph.consumers[node.name]
    if not isinstance(node.layer, Bias | Dropout) or len(readers) != 1:
        return False
    return isinstance(readers[0].layer, Add) or _joins_stream(graph, readers[0])


def _masks(graph: LayerGraph, node: Node) -> float:
    """Return the elements of masks, for one of the sum, that an addition writes for the dropouts it does on the way."""
    makers = [graph.by_name[name] for name in node.inputs if name in graph.by_name]
    dropouts = sum(isinstance(maker.layer, Dropout) and _joins_stream(graph, maker) for maker in makers)
    return MASK_ELEMENTS * dropouts if isinstance(node.layer, Add) else 0.0


def _softmax_apart(
    layer: Layer, phase: Phase, inputs: tuple[Shape, ...], batch: int, framework: Framework, itemsize: int
) -> tuple[Kernel | None, tuple[Kernel, ...]]:
    """Return the kernel of softmax, and what runs in its place where the framework's own does not take the scores.

    That is counted to the byte, and not widened like passes that are counted as if they were fused.
    """
    if not (framework.own_softmax and isinstance(layer, Attention)) or layer.flash or itemsize == FLOAT_BYTES:
        return None, ()
    queries, keys, heads = inputs[0][0], inputs[-1][0], batch * layer.num_heads
    if heads % 4 == 0 and queries % 4 == 0 and 16 < keys <= LONGEST_SOFTMAX:
        return None, ()
    scores = float(heads * queries * keys)
    wide, cast = 2 * FLOAT_BYTES / itemsize, (FLOAT_BYTES + itemsize) / itemsize
    # To fp32, scale, mask, softmax and back; backward the same with gradients, of which softmax reads what it made too.
    passes = (cast, wide, wide, wide * (1.0 if phase is Phase.FORWARD else 1.5), cast)
    return layer.softmax(phase, scores), tuple(memory(scores * each) for each in passes)


def _unfused(layer: Layer, phase: Phase, elements: float, framework: Framework) -> float:
    """Return the bytes that a layer moves where no kernel fuses it; ``elements``: those of its input."""
    if isinstance(layer, CrossEntropy | VocabularySum):
        return framework.loss[phase is not Phase.FORWARD] * elements
    if isinstance(layer, Norm):
        return framework.norm.bytes(phase) * elements
    if isinstance(layer, Glu):
        return framework.glu.bytes(phase) * elements / 2
    if isinstance(layer, Qkv) and layer.rope:
        return framework.rope.bytes(phase) * elements / layer.hidden * layer.turned
    return 0.0


def _one_hot_kernels(layer: Embedding, phase: Phase, tokens: int) -> Iterator[Kernel]:
    """Yield the rows of zeros with a one, and their product with the table, or with the gradient of what was made."""
    yield memory(tokens * layer.vocab_size)
    if phase is Phase.FORWARD:
        yield matmul(tokens, layer.hidden, layer.vocab_size)
    else:
        yield matmul(layer.vocab_size, layer.hidden, tokens)
