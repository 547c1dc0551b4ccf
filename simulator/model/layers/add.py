"""Residual addition of two tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.model.layers.base import Kernel, Layer, LayerSpec, Phase, Shape, ShapeError, count, memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Layer):
    """Sum of two inputs of one shape. Backward passes the gradient on to both and computes nothing."""

    kind: ClassVar[str] = "add"
    num_inputs: ClassVar[int] = 2
    passes_gradient: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the common shape."""
        left, right = inputs
        if left != right:
            raise ShapeError(f"add needs two inputs of one shape, got {list(left)} and {list(right)}")
        return left

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return two reads and a write forward; backward the two gradients meet at the fork: two reads, a write."""
        elements = batch * count(inputs[0])
        return () if phase is Phase.WEIGHT_GRAD else (memory(3 * elements, elements),)


class AddSpec(LayerSpec):
    """``kind: add``; ``inputs`` names the two layers."""

    kind: Literal["add"]

    def build(self, inputs: tuple[Shape, ...]) -> Add:
        """Return the layer."""
        return Add()
