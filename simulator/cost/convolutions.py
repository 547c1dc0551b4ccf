"""What a library's choice of algorithm makes of a convolution: fewer multiplications, or images that are turned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simulator.model.layers import Conv2d
from simulator.model.layers.base import Kernel, Phase, Shape, count, memory
from simulator.plan.frameworks import Framework

WINOGRAD = 2.25
"""Multiplications of a 3 x 3 convolution over those of F(2 x 2, 3 x 3): (2 * 3)^2 to (2 + 3 - 1)^2, the tile that cuDNN
computes in one kernel (Lavin and Gray 2015, arXiv 1509.09308, section 4.1). Stride 1 alone."""


def convolution_kernels(
    layer: Conv2d, phase: Phase, inputs: tuple[Shape, ...], batch: int, dtype: str, framework: Framework
) -> Iterator[Kernel]:
    """Yield the kernels of one phase of a convolution as a framework's library runs them.

    Tensor cores take images channels last. Where a framework keeps them channels first, what a convolution reads and
    writes is turned before and behind it (pytorch issue 81940: nchwToNhwcKernel and nhwcToNchwKernel around an NHWC
    kernel). Either way the two images are read and written once more: an input gradient takes the gradient of the
    output and makes that of the input, a weight gradient takes both.
    """
    fast = dtype in framework.winograd and layer.kernel == 3 and layer.stride == 1
    for kernel in layer.kernels(phase, inputs, batch):
        yield replace(kernel, flops=kernel.flops / WINOGRAD) if fast and kernel.kind == "matmul" else kernel
    if dtype in framework.channels_first:
        yield memory(2 * batch * (count(inputs[0]) + count(layer.output_shape(inputs))))
