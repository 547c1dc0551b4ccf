"""Flattening of a sample to one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.model.layers.base import Kernel, Layer, LayerSpec, Phase, Shape, count


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten(Layer):
    """Reshape to (elements,): a view that moves nothing. Channel blocks stay contiguous, so shards pass unchanged."""

    kind: ClassVar[str] = "flatten"
    shards: ClassVar[tuple[int, ...]] = (0,)
    is_view: ClassVar[bool] = True
    passes_gradient: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (elements,)."""
        return (count(inputs[0]),)

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return no kernels."""
        return ()


class FlattenSpec(LayerSpec):
    """``kind: flatten``."""

    kind: Literal["flatten"]

    def build(self, inputs: tuple[Shape, ...]) -> Flatten:
        """Return the layer."""
        return Flatten()
