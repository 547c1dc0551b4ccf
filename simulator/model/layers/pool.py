"""Max and average pooling over square windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.inputs.fields import PositiveInt
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
    """Pool non-overlapping windows: (C, H, W) -> (C, H // kernel, W // kernel)."""

    kernel: int
    function: Literal["max", "average"] = "max"

    kind: ClassVar[str] = "pool"
    saves_input: ClassVar[bool] = True
    shards: ClassVar[tuple[int, ...]] = (0,)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (C, H // kernel, W // kernel)."""
        (shape,) = inputs
        expect_rank("pool", shape, 3, "channels, height, width")
        if min(shape[1:]) < self.kernel:
            raise ShapeError(f"pool window {self.kernel} is larger than the image {shape[1]} x {shape[2]}")
        return (shape[0], shape[1] // self.kernel, shape[2] // self.kernel)

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

    def build(self, inputs: tuple[Shape, ...]) -> Pool:
        """Return the layer."""
        return Pool(kernel=self.kernel, function=self.function)
