"""Max and average pooling over square windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.inputs.fields import NonNegativeInt, PositiveInt
from simulator.model.layers.base import (
    INDEX_BYTES,
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
class Pool(Layer):
    """Pool windows: (C, H, W) -> (C, H', W').

    Parameters
    ----------
    kernel, stride, padding
        Side of a window, the way from one to the next (0: as long as a window), and the margin.
    function
        What becomes of a window.
    """

    kernel: int
    function: Literal["max", "average"] = "max"
    stride: int = 0
    padding: int = 0

    kind: ClassVar[str] = "pool"
    saves_input: ClassVar[bool] = True
    shards: ClassVar[tuple[int, ...]] = (0,)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (C, H', W') with H' = (H + 2 padding - kernel) // stride + 1."""
        (shape,) = inputs
        expect_rank("pool", shape, 3, "channels, height, width")
        if min(shape[1:]) + 2 * self.padding < self.kernel:
            raise ShapeError(f"pool window {self.kernel} is larger than the image {shape[1]} x {shape[2]}")
        if 2 * self.padding > self.kernel:
            raise ShapeError(f"pool padding {self.padding} is more than half of the window {self.kernel}")
        height, width = ((side + 2 * self.padding - self.kernel) // self.step + 1 for side in shape[1:])
        return (shape[0], height, width)

    @property
    def step(self) -> int:
        """Pixels from one window to the next."""
        return self.stride or self.kernel

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return one pass over input and output in either direction."""
        elements = batch * (count(inputs[0]) + count(self.output_shape(inputs)))
        return () if phase is Phase.WEIGHT_GRAD else (memory(elements, batch * count(inputs[0])),)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the winners' positions (max pooling)."""
        return float(INDEX_BYTES * batch * count(self.output_shape(inputs))) if self.function == "max" else 0.0


class PoolSpec(LayerSpec):
    """``kind: pool``."""

    kind: Literal["pool"]
    kernel: PositiveInt
    function: Literal["max", "average"] = "max"
    stride: PositiveInt | None = None
    padding: NonNegativeInt = 0

    def build(self, inputs: tuple[Shape, ...]) -> Pool:
        """Return the layer."""
        return Pool(kernel=self.kernel, function=self.function, stride=self.stride or 0, padding=self.padding)
