"""What a framework adds to the kernels of a layer: bytes that fused kernels would not move, products' fp32 sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simulator.model.graph import LayerGraph, Node
from simulator.model.layers import CrossEntropy
from simulator.model.layers.base import Kernel, Phase, count, memory
from simulator.plan.frameworks import Framework


def framework_kernels(
    graph: LayerGraph,
    node: Node,
    phase: Phase,
    batch: int,
    itemsize: int,
    gradient_itemsize: int,
    framework: Framework,
) -> Iterator[Kernel]:
    """Yield the kernels of one phase of a layer as a framework runs them.

    Parameters
    ----------
    graph, node, phase
        What is run.
    batch
        Samples of a micro-batch.
    itemsize, gradient_itemsize
        Bytes of an element of the plan's dtype, and of a summed gradient.
    framework
        What is added; nothing by `none`, and never less than nothing.
    """
    inputs = graph.input_shapes(node)
    least = 0.0
    if isinstance(node.layer, CrossEntropy):
        least = framework.loss[phase is not Phase.FORWARD] * batch * count(inputs[0]) / itemsize
    for kernel in node.layer.kernels(phase, inputs, batch):
        if kernel.kind == "memory":
            yield replace(kernel, elements=max(kernel.elements * framework.elementwise, least))
        else:
            yield kernel
    added = framework.accumulation + (2 * gradient_itemsize - itemsize if framework.main_grad else 0)
    if phase is Phase.WEIGHT_GRAD and added and node.layer.num_parameters:
        yield memory(added * node.layer.num_parameters / itemsize)
