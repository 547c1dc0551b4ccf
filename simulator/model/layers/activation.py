"""Pointwise non-linearities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.model.layers.base import Kernel, Layer, LayerSpec, Phase, Shape, count, memory

Function = Literal["relu", "gelu", "tanh", "sigmoid", "silu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation(Layer):
    """Apply ``function`` to each element; the shape stays."""

    function: Function

    kind: ClassVar[str] = "activation"
    shards: ClassVar[tuple[int, ...]] = (0,)

    @property
    def saves_input(self) -> bool:  # type: ignore[override]
        """The derivatives of gelu and silu are written in terms of the input; the others need the output."""
        return self.function in ("gelu", "silu")

    @property
    def saves_output(self) -> bool:  # type: ignore[override]
        """Relu, tanh and sigmoid differentiate from their own output."""
        return not self.saves_input

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return one pass over memory: read and write forward, two reads and a write backward."""
        elements = batch * count(inputs[0])
        if phase is Phase.WEIGHT_GRAD:
            return ()
        return (memory((2 if phase is Phase.FORWARD else 3) * elements, elements),)


class ActivationSpec(LayerSpec):
    """``kind: activation``."""

    kind: Literal["activation"]
    function: Function = "relu"

    def build(self, inputs: tuple[Shape, ...]) -> Activation:
        """Return the layer."""
        return Activation(function=self.function)
