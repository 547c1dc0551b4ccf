"""Layer normalisation over the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.model.layers.base import Kernel, Layer, LayerSpec, Phase, Shape, ShapeError, count, memory

STATISTICS_BYTES = 8
"""Mean and reciprocal standard deviation of a row, kept in fp32 whatever the dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Layer):
    """LayerNorm with scale and shift: (..., features) -> (..., features)."""

    features: int

    kind: ClassVar[str] = "norm"
    saves_input: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the input's shape."""
        (shape,) = inputs
        if not shape or shape[-1] != self.features:
            raise ShapeError(f"norm expects {self.features} features, got shape {list(shape)}")
        return shape

    def parameters(self) -> dict[str, Shape]:
        """Return scale and shift."""
        return {"weight": (self.features,), "bias": (self.features,)}

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return one pass: read and write forward; read x and dy, write dx backward; read both for the weights."""
        elements = batch * count(inputs[0])
        passes = {Phase.FORWARD: 2, Phase.INPUT_GRAD: 3, Phase.WEIGHT_GRAD: 2}[phase]
        return (memory(passes * elements, 5 * elements),)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of each row's mean and reciprocal standard deviation."""
        return float(STATISTICS_BYTES * batch * count(inputs[0][:-1]))

    def extra_weight_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the same statistics."""
        return self.extra_saved_bytes(inputs, batch, itemsize)


class NormSpec(LayerSpec):
    """``kind: norm``."""

    kind: Literal["norm"]

    def build(self, inputs: tuple[Shape, ...]) -> Norm:
        """Return the layer for this input."""
        if not inputs[0]:
            raise ShapeError("norm needs at least one axis, got a scalar")
        return Norm(features=inputs[0][-1])
