"""Some of the features of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.model.layers.base import Kernel, Layer, Phase, Shape, ShapeError, count, memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(Layer):
    """Features ``start`` to ``stop`` of each row: a view forward; backward writes the row with zeros around them."""

    start: int
    stop: int

    kind: ClassVar[str] = "slice"
    is_view: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (..., stop - start)."""
        (shape,) = inputs
        if not shape or shape[-1] < self.stop:
            raise ShapeError(f"slice {self.start} to {self.stop} is not inside shape {list(shape)}")
        return (*shape[:-1], self.stop - self.start)

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return nothing forward; backward reads the gradient and writes the whole row."""
        if phase is not Phase.INPUT_GRAD:
            return ()
        return (memory(batch * (count(inputs[0]) + count(self.output_shape(inputs)))),)
