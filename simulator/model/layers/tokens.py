"""From an image to a sequence of tokens and back to one vector, as vision transformers do (arXiv 2010.11929)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.model.layers.base import Kernel, Layer, Phase, Shape, ShapeError, count, expect_rank, memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens(Layer):
    """One token a pixel behind a learned class token, with learned positions: (C, H, W) -> (H W + 1, C)."""

    hidden: int
    sequence: int

    kind: ClassVar[str] = "tokens"
    passes_gradient: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (H W + 1, C)."""
        (shape,) = inputs
        expect_rank("tokens", shape, 3, "channels, height, width")
        if shape[0] != self.hidden or shape[1] * shape[2] + 1 != self.sequence:
            raise ShapeError(f"tokens expects {self.hidden} channels and {self.sequence - 1} pixels, got {list(shape)}")
        return (self.sequence, self.hidden)

    def parameters(self) -> dict[str, Shape]:
        """Return the class token and a row for each position."""
        return {"class_bias": (self.hidden,), "position_weight": (self.sequence, self.hidden)}

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the copy and the sum forward, the sum over the batch for the weights; the input gradient is free."""
        elements = batch * count(inputs[0])
        if phase is Phase.INPUT_GRAD:
            return ()
        return (memory((4 if phase is Phase.FORWARD else 1) * elements, elements),)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstToken(Layer):
    """The first row of a sequence, a copy: (sequence, hidden) -> (hidden,)."""

    kind: ClassVar[str] = "first_token"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (hidden,)."""
        expect_rank("first_token", inputs[0], 2, "sequence, hidden")
        return inputs[0][1:]

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return a copy of the row forward, the gradient with zeros for all other rows backward."""
        row = batch * inputs[0][1]
        if phase is Phase.WEIGHT_GRAD:
            return ()
        return (memory(2 * row if phase is Phase.FORWARD else row + batch * count(inputs[0])),)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTokens(Layer):
    """The first rows of a sequence, a copy: (sequence, hidden) -> (number, hidden).

    Stands for any choice of as many rows: what is copied costs the same wherever it lies.
    """

    number: int

    kind: ClassVar[str] = "first_tokens"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (number, hidden)."""
        (shape,) = inputs
        expect_rank("first_tokens", shape, 2, "sequence, hidden")
        if shape[0] < self.number:
            raise ShapeError(f"first_tokens takes {self.number} rows, got {list(shape)}")
        return (self.number, shape[1])

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return a copy of the rows forward, the gradient with zeros for all other rows backward."""
        rows = batch * self.number * inputs[0][1]
        if phase is Phase.WEIGHT_GRAD:
            return ()
        return (memory(2 * rows if phase is Phase.FORWARD else rows + batch * count(inputs[0])),)
