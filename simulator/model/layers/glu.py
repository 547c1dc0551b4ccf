"""Gated linear unit: one half of the features opens or closes the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.model.layers.base import Kernel, Layer, LayerSpec, Phase, Shape, ShapeError, count, memory

Gate = Literal["silu", "gelu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Glu(Layer):
    """function(gate) x up: (..., gate then up) -> (..., half of the features); SwiGLU and GeGLU (arXiv 2002.05202).

    One fused kernel that keeps its input alone and computes function(gate) again in backward, as Megatron-Core's
    ``bias_swiglu_fusion`` and compiled torch do.
    """

    function: Gate = "silu"

    kind: ClassVar[str] = "glu"
    saves_input: ClassVar[bool] = True
    shards: ClassVar[tuple[int, ...]] = (0,)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape with half of the features."""
        (shape,) = inputs
        if not shape or shape[-1] % 2:
            raise ShapeError(f"glu needs an even number of features, gate and up, got shape {list(shape)}")
        return (*shape[:-1], shape[-1] // 2)

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return read gate and up, write one forward; read three, write two backward."""
        half = batch * count(inputs[0]) // 2
        if phase is Phase.WEIGHT_GRAD:
            return ()
        return (memory((3 if phase is Phase.FORWARD else 5) * half, (5 if phase is Phase.FORWARD else 10) * half),)


class GluSpec(LayerSpec):
    """``kind: glu``."""

    kind: Literal["glu"]
    function: Gate = "silu"

    def build(self, inputs: tuple[Shape, ...]) -> Glu:
        """Return the layer."""
        return Glu(function=self.function)
