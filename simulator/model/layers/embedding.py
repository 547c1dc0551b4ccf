"""Token embedding, with learned positions when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.inputs.fields import PositiveInt
from simulator.model.layers.base import (
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
class Embedding(Layer):
    """Look up one row a token, (sequence,) of ids -> (sequence, hidden), and add a learned row for each position.

    Parameters
    ----------
    vocab_size, hidden
        Rows and columns of the table.
    positions
        Rows of the table of positions; 0 means that there is none.
    token_types
        Rows of the table of token types (BERT's sentences); the data has one type, the first.
    """

    vocab_size: int
    hidden: int
    positions: int = 0
    token_types: int = 0

    kind: ClassVar[str] = "embedding"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (sequence, hidden)."""
        (shape,) = inputs
        expect_rank("embedding", shape, 1, "sequence")
        if self.positions and shape[0] > self.positions:
            raise ShapeError(f"embedding has {self.positions} positions, the sequence has {shape[0]}")
        return (shape[0], self.hidden)

    def parameters(self) -> dict[str, Shape]:
        """Return the token table and those of positions and types that are used."""
        rows = {"weight": self.vocab_size, "position_weight": self.positions, "type_weight": self.token_types}
        return {name: (number, self.hidden) for name, number in rows.items() if number}

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the gather forward and the scatter-add into a zeroed dense gradient backward; ids have no gradient."""
        elements = batch * count(inputs[0]) * self.hidden
        if phase is Phase.FORWARD:
            return (memory(2 * elements),)
        if phase is Phase.INPUT_GRAD:
            return ()
        return (memory(3 * elements + self.vocab_size * self.hidden),)


class EmbeddingSpec(LayerSpec):
    """``kind: embedding``."""

    kind: Literal["embedding"]
    vocab_size: PositiveInt
    hidden_size: PositiveInt
    positions: bool = False

    def build(self, inputs: tuple[Shape, ...]) -> Embedding:
        """Return the layer for this input."""
        expect_rank("embedding", inputs[0], 1, "sequence")
        positions = inputs[0][0] if self.positions else 0
        return Embedding(vocab_size=self.vocab_size, hidden=self.hidden_size, positions=positions)
