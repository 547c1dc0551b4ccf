"""What every layer kind knows about itself: shapes, parameters, kernels and what backward needs.

A layer is described per *sample*; the batch dimension comes in only where costs are asked for, so that one
graph serves every micro-batch size. Costs are lists of kernels in FLOPs and *elements*: multiplied by the size of
the plan's dtype, elements become bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from simulator.inputs.fields import StrictModel

Shape = tuple[int, ...]
"""Shape of one sample, without the batch dimension."""

INDEX_BYTES = 8
"""Bytes of a token id or pool index: torch uses int64."""

FLOAT_BYTES = 4
"""Bytes of a number that is kept in fp32 whatever the dtype."""


class ShapeError(ValueError):
    """The shapes of connected layers do not fit together; ``hint`` says a way out."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Phase(StrEnum):
    """The three parts of a layer's work; a full backward is INPUT_GRAD and WEIGHT_GRAD together."""

    FORWARD = "F"
    INPUT_GRAD = "I"
    WEIGHT_GRAD = "W"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One device kernel.

    Parameters
    ----------
    kind
        ``matmul`` (limited by arithmetic when large), ``attention`` (scores, softmax and context fused) or ``memory``
        (limited by memory bandwidth).
    flops
        Floating point operations, a multiply-add counted as two; of attention the whole square, also under a mask.
    elements
        Tensor elements read and written; times the dtype's size this is the memory traffic in bytes.
    m, n, k, batch
        Shape of a product: ``batch`` times (m x k) @ (k x n). Of attention: m queries and n keys of size k for each of
        ``batch`` heads. How much of its peak a device reaches depends on it. All 0 for ``memory``.
    causal
        Attention that leaves out what the mask hides: half of the square.
    repeated_flops
        Work beyond ``flops`` that runs again what forward did: the device must do it, the model does not ask for it.
        Fused attention computes the scores again in backward.
    """

    kind: str
    flops: float
    elements: float
    m: int = 0
    n: int = 0
    k: int = 0
    batch: int = 0
    causal: bool = False
    repeated_flops: float = 0.0


def matmul(m: int, n: int, k: int, batch: int = 1) -> Kernel:
    """Return the kernel of ``batch`` products (m x k) @ (k x n): 2mnk FLOPs, each operand moved once."""
    return Kernel("matmul", 2.0 * batch * m * n * k, float(batch * (m * k + k * n + m * n)), m, n, k, batch)


def grouped_matmul(rows: float, n: int, k: int, groups: int) -> Kernel:
    """Return the kernel of one product a group, (rows / groups x k) @ (k x n), as the experts of a mixture run.

    FLOPs follow the rows, however they are shared out among the groups; ``m`` is what a group gets on average.
    """
    elements = rows * (k + n) + groups * k * n
    return Kernel("matmul", 2.0 * rows * n * k, float(elements), math.ceil(rows / groups), n, k, groups)


def grouped_matmul_of_weights(rows: float, n: int, k: int, groups: int) -> Kernel:
    """Return the kernel of the weights' gradients of such products: (n x rows / groups) @ (rows / groups x k)."""
    elements = rows * (k + n) + groups * k * n
    return Kernel("matmul", 2.0 * rows * n * k, float(elements), n, k, math.ceil(rows / groups), groups)


def fused_attention(
    *,
    batch: int,
    queries: int,
    keys: int,
    size: int,
    value_size: int,
    shared: int,
    causal: bool,
    backward: bool,
    window: int | None = None,
) -> Kernel:
    """Return the kernel of attention that never writes the scores to memory (Dao et al. 2022, arXiv 2205.14135).

    Forward is two products, scores and context. Backward is four that the model needs, towards either factor of the
    two, and the scores once more in ``repeated_flops``: 2.5 times forward in all where values are as wide as keys.

    Parameters
    ----------
    batch
        Samples times heads.
    queries, keys
        Length of either sequence.
    size, value_size
        Width of a query or key, and of a value, in one head.
    shared
        Query heads that share one head of keys and values.
    causal
        Leaves out what the mask hides; the FLOPs say the whole square all the same.
    backward
        Which direction.
    window
        Keys that a query sees where they are fewer: then all that is computed is a band of this width, nothing of which
        a mask hides but at the beginning.
    """
    own, others = batch * queries * (size + value_size), batch / shared * keys * (size + value_size)
    if window and window < keys:
        keys, causal = window, False
    scores, context = 2.0 * batch * queries * keys * size, 2.0 * batch * queries * keys * value_size
    # Forward reads q, k and v and writes the output; backward reads all four and moves a gradient for each.
    elements = (2 if backward else 1) * (own + others)
    flops, repeated = (2 * (scores + context), scores) if backward else (scores + context, 0.0)
    return Kernel("attention", flops, float(elements), queries, keys, size, batch, causal, repeated)


def memory(elements: float, flops: float = 0.0) -> Kernel:
    """Return a memory-bound kernel that moves ``elements``."""
    return Kernel("memory", float(flops), float(elements))


def count(shape: Shape) -> int:
    """Return the number of elements of one sample."""
    return math.prod(shape)


class Layer:
    """Base of the layer kinds; subclasses are frozen dataclasses whose fields are the layer's sizes.

    Attributes
    ----------
    kind
        The word used in YAML.
    saves_input, saves_output
        Whether backward needs the layer's inputs / output. Kept per tensor rather than as a byte count because
        autograd stores a tensor once even when two layers save it.
    is_view
        Whether the output lies in the input's storage.
    passes_gradient
        Whether backward hands the gradient of the output on as it is, without a tensor of its own.
    transient
        Whether the output is gone when the block's forward has ended: backward does without it or gets it again.
    reads_targets
        Whether it reads the targets beside its inputs.
    draws
        Whether it draws random numbers.
    makes_fp32
        Whether its output is fp32 whatever the dtype.
    has_gradient
        Whether its output has a gradient where its inputs have one.
    shards
        Inputs, by position, of which a rank may hold some channels or heads alone, and makes those of the output.
    """

    __slots__ = ()
    kind: ClassVar[str]
    saves_input: ClassVar[bool] = False
    saves_output: ClassVar[bool] = False
    is_view: ClassVar[bool] = False
    passes_gradient: ClassVar[bool] = False
    transient: ClassVar[bool] = False
    reads_targets: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    makes_fp32: ClassVar[bool] = False
    has_gradient: ClassVar[bool] = True
    num_inputs: ClassVar[int] = 1
    shards: ClassVar[tuple[int, ...]] = ()

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the per-sample output shape; raises ShapeError when the inputs do not fit."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Shape]:
        """Return the shape of each parameter tensor by name."""
        return {}

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the kernels that one phase runs for ``batch`` samples."""
        raise NotImplementedError

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes that backward needs beyond the layer's input and output tensors, and the data."""
        return 0.0

    def extra_weight_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes that the weight gradient alone needs beyond the input and the gradient of the output."""
        return 0.0

    def saves(self, position: int) -> bool:
        """Return whether backward needs one of the inputs, by its place."""
        return self.saves_input

    def saves_for_weights(self, position: int) -> bool:
        """Return whether weight gradients need one of the inputs: what stands behind the first says where rows go."""
        return position == 0 and self.saves(position)

    def gradient_bytes_inside(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of gradients between the kernels of the layer's own backward, the most that live at once."""
        return 0.0

    def parts(self, parameter: str) -> tuple[int, ...]:
        """Return the rows of the matrices that stand below each other in a parameter; each is cut on its own."""
        return (self.parameters()[parameter][0],)

    @property
    def has_weights(self) -> bool:
        """Whether there are weight gradients to compute."""
        return bool(self.parameters())

    @property
    def num_parameters(self) -> int:
        """Number of trainable scalars."""
        return sum(count(shape) for shape in self.parameters().values())

    def flops(self, phase: Phase, inputs: tuple[Shape, ...], batch: int = 1) -> float:
        """Return the FLOPs of one phase for ``batch`` samples."""
        return sum(kernel.flops for kernel in self.kernels(phase, inputs, batch))

    def bytes_moved(self, phase: Phase, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return the memory traffic of one phase in bytes."""
        return itemsize * sum(kernel.elements for kernel in self.kernels(phase, inputs, batch))


class LayerSpec(StrictModel):
    """YAML keys that every entry of an explicit ``layers:`` list has; without ``block`` a layer is one by itself."""

    name: str | None = None
    inputs: list[str] | None = None
    block: str | None = None

    def expand(self, inputs: tuple[Shape, ...]) -> tuple[tuple[str, Layer], ...]:
        """Return what the entry stands for: (suffix of the name, layer), each reading the one before."""
        return (("", self.build(inputs)),)

    def build(self, inputs: tuple[Shape, ...]) -> Layer:
        """Return the layer for these input shapes; raises ShapeError when it cannot take them."""
        raise NotImplementedError


def expect_rank(layer: str, shape: Shape, rank: int, axes: str) -> None:
    """Raise ShapeError unless ``shape`` has ``rank`` axes, named for the reader in ``axes``."""
    if len(shape) != rank:
        raise ShapeError(f"{layer} needs a {rank}-axis input ({axes}), got {list(shape)}")
