"""Operations with weights, in two forms: as torch has them, and with the weights' gradient put off.

Zero-bubble schedules run the input gradient (I) and the weight gradient (W) of a stage apart. ``Deferred`` operations
compute only the input gradient when autograd comes by, and leave what the weights' gradient takes in a queue; nothing
is computed twice (sail-sg's zero-bubble ``WeightGradStore``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from executor.modules import put_off

Closure = Callable[[], None]
View = Callable[[Tensor], Tensor]


class Operations(Protocol):
    """What layers need."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return x weight^T + bias."""

    def conv2d(self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        """Return the convolution."""

    def norm(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer normalisation over the last axis."""

    def rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return x over its root mean square along the last axis, scaled."""

    def batch_norm(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the channels of images normalised over the batch and all pixels."""

    def grouped_linear(self, rows: Tensor, weight: Tensor, sizes: list[int]) -> Tensor:
        """Return one dense layer after the other, each on its own number of rows."""

    def embedding(self, ids: Tensor, weight: Tensor) -> Tensor:
        """Return one row an id."""

    def add(self, x: Tensor, parameter: Tensor, view: View) -> Tensor:
        """Return x plus a view of a parameter, broadcast over the leading axes of x."""


class Plain:
    """As torch has them: autograd computes both gradients at once."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Dense layer."""
        return functional.linear(x, weight, bias)

    def conv2d(self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        """Convolution."""
        return functional.conv2d(x, weight, bias, stride=stride, padding=padding)

    def norm(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Layer normalisation."""
        return functional.layer_norm(x, weight.shape, weight, bias)

    def rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Root mean square normalisation."""
        return _apply(put_off.RmsNorm, None, x, weight)

    def batch_norm(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Batch normalisation."""
        return functional.batch_norm(x, None, None, weight, bias, training=True)

    def grouped_linear(self, rows: Tensor, weight: Tensor, sizes: list[int]) -> Tensor:
        """Experts."""
        return _apply(put_off.GroupedLinear, None, rows, weight, sizes)

    def embedding(self, ids: Tensor, weight: Tensor) -> Tensor:
        """Rows of a table."""
        return functional.embedding(ids, weight)

    def add(self, x: Tensor, parameter: Tensor, view: View) -> Tensor:
        """Broadcast sum."""
        return x + view(parameter)


class Deferred:
    """With the weights' gradients put off.

    Attributes
    ----------
    queue
        Takes the closures while backward of a segment runs; each adds one weight's gradient to its ``grad``.
    weights_leave
        Whether weights may have no values any more when their gradients are computed, as sharded plans have it.
    """

    def __init__(self, weights_leave: bool = False) -> None:
        self.queue: list[Closure] = []
        self.weights_leave = weights_leave

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Dense layer."""
        return _apply(put_off.Linear, self, x, weight, bias)

    def conv2d(self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        """Convolution."""
        return _apply(put_off.Conv2d, self, x, weight, bias, stride, padding)

    def norm(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Layer normalisation."""
        return _apply(put_off.Norm, self, x, weight, bias)

    def rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """Root mean square normalisation."""
        return _apply(put_off.RmsNorm, self, x, weight)

    def batch_norm(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Batch normalisation."""
        return _apply(put_off.BatchNorm, self, x, weight, bias)

    def grouped_linear(self, rows: Tensor, weight: Tensor, sizes: list[int]) -> Tensor:
        """Experts."""
        return _apply(put_off.GroupedLinear, self, rows, weight, sizes)

    def embedding(self, ids: Tensor, weight: Tensor) -> Tensor:
        """Rows of a table."""
        return _apply(put_off.Embedding, self, ids, weight)

    def add(self, x: Tensor, parameter: Tensor, view: View) -> Tensor:
        """Broadcast sum."""
        return _apply(put_off.Add, self, x, parameter, view)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)
    return result


PLAIN = Plain()
"""Has no state, so one serves all."""
