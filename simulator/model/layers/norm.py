"""Normalisation over the last axis: LayerNorm, and RMSNorm, which leaves the mean where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.model.layers.base import FLOAT_BYTES, Kernel, Layer, LayerSpec, Phase, Shape, ShapeError, count, memory

Function = Literal["layer", "rms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm(Layer):
    """Normalise each row and scale it: (..., features) -> (..., features).

    Parameters
    ----------
    features
        Length of a row.
    function
        ``layer``: subtract the mean and divide by the standard deviation; ``rms``: divide by the root mean square
        (arXiv 1910.07467), in one fused kernel that keeps its input.
    bias
        Whether a shift is learned too; RMSNorm has none.
    """

    features: int
    function: Function = "layer"
    bias: bool = True

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
        scale: dict[str, Shape] = {"weight": (self.features,)}
        return scale | {"bias": (self.features,)} if self.bias and self.function == "layer" else scale

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return one pass: read and write forward; read x and dy, write dx backward; read both for the weights."""
        elements = batch * count(inputs[0])
        passes = {Phase.FORWARD: 2, Phase.INPUT_GRAD: 3, Phase.WEIGHT_GRAD: 2}[phase]
        return (memory(passes * elements, 5 * elements),)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of each row's mean (LayerNorm alone) and reciprocal deviation, fp32 whatever the dtype."""
        statistics = 2 if self.function == "layer" else 1
        return float(statistics * FLOAT_BYTES * batch * count(inputs[0][:-1]))

    def extra_weight_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the same statistics."""
        return self.extra_saved_bytes(inputs, batch, itemsize)


class NormSpec(LayerSpec):
    """``kind: norm``."""

    kind: Literal["norm"]
    function: Function = "layer"
    bias: bool = True

    def build(self, inputs: tuple[Shape, ...]) -> Norm:
        """Return the layer for this input."""
        if not inputs[0]:
            raise ShapeError("norm needs at least one axis, got a scalar")
        return Norm(features=inputs[0][-1], function=self.function, bias=self.bias)
