"""Dropout: elements chosen at random are zero, and the others are scaled up so that the mean stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from simulator.inputs.fields import NonNegativeNumber
from simulator.model.layers.base import Kernel, Layer, LayerSpec, Phase, Shape, count, memory

DropRate = Annotated[NonNegativeNumber, Field(lt=1)]
"""Share of the elements that are dropped; 0 for none, and not all of them."""

MASK_BYTES = 1
"""Bytes of a yes or no, which backward needs for each element (Korthikanti et al. 2022, arXiv 2205.05198, 4.1)."""

MASK_ELEMENTS = 0.5
"""Traffic of a mask, in elements of a 16-bit dtype."""


def drop(elements: float, phase: Phase) -> tuple[Kernel, ...]:
    """Return the pass that drops some of ``elements``, or their gradients: read, write, and a mask either way."""
    return () if phase is Phase.WEIGHT_GRAD else (memory((2 + MASK_ELEMENTS) * elements, 2 * elements),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout(Layer):
    """Drop elements of any shape; a mask is kept for backward.

    Parameters
    ----------
    rate
        Share of the elements that are dropped.
    num_parts
        Ranks that share the sequence, each the rows of its part.
    """

    rate: float
    num_parts: int = 1

    kind: ClassVar[str] = "dropout"
    draws: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return one pass either way."""
        return drop(batch * count(inputs[0]), phase)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the mask."""
        return float(MASK_BYTES * batch * count(inputs[0]))


class DropoutSpec(LayerSpec):
    """``kind: dropout``."""

    kind: Literal["dropout"]
    rate: DropRate

    def build(self, inputs: tuple[Shape, ...]) -> Dropout:
        """Return the layer."""
        return Dropout(rate=self.rate)
