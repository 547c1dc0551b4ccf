"""A mixture of experts (arXiv 1701.06538) as layers: who goes where, the way there, the products, the way back.

The router chooses ``top_k`` of the experts for each token; no token is dropped and there is no capacity, so that the
number of rows, tokens x top_k, is known beforehand and only their distribution over the experts is not. Rows are
sorted by expert, and each expert multiplies its own (MegaBlocks, arXiv 2211.15841). The auxiliary loss that balances
the experts is left out: a few operations on (tokens, experts).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.model.layers.base import (
    FLOAT_BYTES,
    INDEX_BYTES,
    Kernel,
    Layer,
    Phase,
    Shape,
    ShapeError,
    count,
    expect_rank,
    grouped_matmul,
    grouped_matmul_of_weights,
    matmul,
    memory,
)

Scoring = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Router(Layer):
    """Weigh the experts of each token: (sequence, hidden) -> (sequence, experts), zero but for the ``top_k`` chosen.

    Parameters
    ----------
    hidden, num_experts, top_k
        Sizes.
    scoring
        ``softmax`` over all experts, or ``sigmoid`` of each (DeepSeek-V3); in fp32, whatever the dtype. The weights of
        the chosen ones are scaled to sum to one.
    """

    hidden: int
    num_experts: int
    top_k: int
    scoring: Scoring = "softmax"

    kind: ClassVar[str] = "router"
    saves_input: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (sequence, experts)."""
        (shape,) = inputs
        expect_rank("router", shape, 2, "sequence, hidden")
        if shape[1] != self.hidden:
            raise ShapeError(f"router expects hidden size {self.hidden}, got {shape[1]} in {list(shape)}")
        return (shape[0], self.num_experts)

    def parameters(self) -> dict[str, Shape]:
        """Return weight (experts, hidden)."""
        return {"weight": (self.num_experts, self.hidden)}

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the product of a phase; scores, choice and scaling are a pass over (tokens, experts)."""
        tokens = batch * inputs[0][0]
        scores = memory(3 * tokens * self.num_experts, 5 * tokens * self.num_experts)
        if phase is Phase.FORWARD:
            return (matmul(tokens, self.num_experts, self.hidden), scores)
        if phase is Phase.INPUT_GRAD:
            return (scores, matmul(tokens, self.hidden, self.num_experts))
        return (matmul(self.num_experts, self.hidden, tokens),)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the scores, and of the choice with its weights before and after their scaling."""
        tokens = batch * inputs[0][0]
        chosen = self.top_k * (INDEX_BYTES + FLOAT_BYTES) + FLOAT_BYTES
        return float(tokens * (FLOAT_BYTES * self.num_experts + chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch(Layer):
    """A row for each expert of each token, sorted by expert: (sequence, hidden) -> (sequence top_k, hidden)."""

    top_k: int

    kind: ClassVar[str] = "dispatch"
    num_inputs: ClassVar[int] = 2

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (sequence x top_k, hidden)."""
        sequence, hidden = inputs[0]
        return (sequence * self.top_k, hidden)

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the gather forward and the sum of the copies' gradients backward."""
        tokens = batch * count(inputs[0])
        rows = tokens * self.top_k
        return () if phase is Phase.WEIGHT_GRAD else (memory(rows + (rows if phase is Phase.FORWARD else tokens)),)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of each row's token."""
        return float(INDEX_BYTES * batch * inputs[0][0] * self.top_k)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedLinear(Layer):
    """One dense layer an expert, each over its own rows: (rows, in_features) -> (rows, out_features).

    Parameters
    ----------
    in_features, out_features, num_parts
        As in a dense layer.
    num_experts, num_local
        Experts of the layer, and those that one rank holds; the same without expert parallelism.
    load_imbalance
        Rows of the busiest rank over the mean of all ranks, 1 or more. Expert parallelism brings that many; whoever
        holds all experts has all rows, wherever they go.
    """

    in_features: int
    out_features: int
    num_experts: int
    num_local: int
    num_parts: int = 1
    load_imbalance: float = 1.0

    kind: ClassVar[str] = "grouped_linear"
    num_inputs: ClassVar[int] = 2
    saves_input: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (rows, out_features)."""
        rows = inputs[0]
        if rows[-1] != self.in_features:
            raise ShapeError(f"experts expect {self.in_features} input features, got shape {list(rows)}")
        return (*rows[:-1], self.out_features)

    def parameters(self) -> dict[str, Shape]:
        """Return the weights of the local experts (experts, out_features, in_features)."""
        return {"expert_weight": (self.num_local, self.out_features, self.in_features)}

    def parts(self, parameter: str) -> tuple[int, ...]:
        """Return the rows of each part of an expert's weight."""
        return (self.out_features // self.num_parts,) * self.num_parts

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return one grouped product a phase."""
        rows = batch * inputs[0][0]
        if phase is Phase.FORWARD:
            return (grouped_matmul(rows, self.out_features, self.in_features, self.num_local),)
        if phase is Phase.INPUT_GRAD:
            return (grouped_matmul(rows, self.in_features, self.out_features, self.num_local),)
        return (grouped_matmul_of_weights(rows, self.out_features, self.in_features, self.num_local),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Combine(Layer):
    """Sum each token's rows by the router's weights: (sequence top_k, hidden) -> (sequence, hidden).

    It is linear in the rows: partial sums of a tensor-parallel rank may pass, and are fewer behind it.
    """

    top_k: int

    kind: ClassVar[str] = "combine"
    num_inputs: ClassVar[int] = 2
    saves_input: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (sequence, hidden)."""
        rows, hidden = inputs[0]
        return (rows // self.top_k, hidden)

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return read rows, write sums forward; backward reads them and the gradients, writes those of the rows."""
        rows = batch * count(inputs[0])
        if phase is Phase.WEIGHT_GRAD:
            return ()
        return (memory(rows + rows / self.top_k if phase is Phase.FORWARD else 3 * rows, 2 * rows),)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of each row's token and expert."""
        return float(2 * INDEX_BYTES * batch * inputs[0][0])
