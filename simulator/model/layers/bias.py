"""The bias of a row-parallel layer, added once after its partial sums were all-reduced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.model.layers.base import Kernel, Layer, Phase, Shape, ShapeError, count, memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Bias(Layer):
    """Add one value a channel. Made by the tensor-parallel rewriting, not written in YAML.

    Parameters
    ----------
    features
        Number of channels.
    channel_axis
        Axis of a sample that holds the channels: -1 after a linear layer, 0 after a convolution.
    parameter
        What the layer that it was taken from calls it.
    """

    features: int
    channel_axis: int = -1
    parameter: str = "bias"

    kind: ClassVar[str] = "bias"
    passes_gradient: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the input's shape."""
        (shape,) = inputs
        if not shape or shape[self.channel_axis] != self.features:
            raise ShapeError(f"bias expects {self.features} channels, got shape {list(shape)}")
        return shape

    def parameters(self) -> dict[str, Shape]:
        """Return the bias."""
        return {self.parameter: (self.features,)}

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return read and write forward, the column sum for the weight gradient; the input gradient is free."""
        elements = batch * count(inputs[0])
        if phase is Phase.INPUT_GRAD:
            return ()
        return (memory((2 if phase is Phase.FORWARD else 1) * elements, elements),)
