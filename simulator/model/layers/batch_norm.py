"""Batch normalisation of images: each channel by its mean and deviation over the batch and all pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.model.layers.base import (
    FLOAT_BYTES,
    Kernel,
    Layer,
    LayerSpec,
    Phase,
    Shape,
    ShapeError,
    count,
    expect_rank,
    memory,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(Layer):
    """Scale and shift of normalised channels: (C, H, W) -> (C, H, W), statistics of this rank's micro-batch alone.

    Every channel is normalised on its own, so that a tensor-parallel rank can do some of them. The running statistics
    that inference needs are two numbers a channel and no parameters; they are left out.
    """

    channels: int

    kind: ClassVar[str] = "batch_norm"
    shards: ClassVar[tuple[int, ...]] = (0,)
    saves_input: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the input's shape."""
        (shape,) = inputs
        expect_rank("batch_norm", shape, 3, "channels, height, width")
        if shape[0] != self.channels:
            raise ShapeError(f"batch_norm expects {self.channels} channels, got {shape[0]} in {list(shape)}")
        return shape

    def parameters(self) -> dict[str, Shape]:
        """Return scale and shift."""
        return {"weight": (self.channels,), "bias": (self.channels,)}

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return two passes, for the statistics and to apply them: read twice and write; read x and dy for either."""
        elements = batch * count(inputs[0])
        passes = {Phase.FORWARD: 3, Phase.INPUT_GRAD: 3, Phase.WEIGHT_GRAD: 2}[phase]
        return (memory(passes * elements, 5 * elements),)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of each channel's mean and reciprocal deviation."""
        return float(2 * FLOAT_BYTES * self.channels)

    def extra_weight_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the same statistics."""
        return self.extra_saved_bytes(inputs, batch, itemsize)


class BatchNormSpec(LayerSpec):
    """``kind: batch_norm``."""

    kind: Literal["batch_norm"]

    def build(self, inputs: tuple[Shape, ...]) -> BatchNorm:
        """Return the layer for this input."""
        expect_rank("batch_norm", inputs[0], 3, "channels, height, width")
        return BatchNorm(channels=inputs[0][0])
