"""A language model's two ends where ranks share the vocabulary: made by a rewriting, not written in YAML.

Each rank has some rows of the embedding and makes some columns of the logits; three small sums over the ranks give the
cross entropy (Shoeybi et al. 2019, arXiv 1909.08053, section 3). The last rows may be padding, which no token is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.model.layers.base import FLOAT_BYTES, INDEX_BYTES, Kernel, Layer, Phase, Shape, count, memory
from simulator.model.layers.embedding import Embedding
from simulator.model.layers.loss import Loss

STATISTICS = 3
"""Numbers of a rank for each position: the largest logit, the sum of exponentials, the target's logit."""

FLAG_BYTES = 1
"""Bytes of a yes or no: whether a token is among a rank's rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyEmbedding(Embedding):
    """Look up the tokens among a rank's ``rows``, zeros for the others; ``vocab_size`` is that of all ranks."""

    rows: int

    kind: ClassVar[str] = "vocabulary_embedding"

    def parameters(self) -> dict[str, Shape]:
        """Return a rank's part of the token table."""
        return {"weight": (self.rows, self.hidden)}

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return those of an embedding, and the pass that masks what is not here."""
        elements = batch * count(inputs[0]) * self.hidden
        if phase is Phase.FORWARD:
            return (memory(2 * elements), memory(2 * elements))
        if phase is Phase.INPUT_GRAD:
            return ()
        return (memory(2 * elements), memory(3 * elements + self.rows * self.hidden))

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the rows' numbers on this rank and of the mask."""
        return float((INDEX_BYTES + FLAG_BYTES) * batch * count(inputs[0]))

    def extra_weight_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the rows' numbers."""
        return float(INDEX_BYTES * batch * count(inputs[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions(Layer):
    """Add a learned row for each position, and that of the token type, to what the ranks have summed.

    Parameters
    ----------
    hidden, positions, token_types
        Sizes of the tables; 0 rows mean that there is none.
    num_parts
        Ranks that share the sequence, each the rows of its part.
    """

    hidden: int
    positions: int = 0
    token_types: int = 0
    num_parts: int = 1

    kind: ClassVar[str] = "positions"
    passes_gradient: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def parameters(self) -> dict[str, Shape]:
        """Return both tables, as far as there are any."""
        rows = {"position_weight": self.positions, "type_weight": self.token_types}
        return {name: (number, self.hidden) for name, number in rows.items() if number}

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return read and write forward, the sum over the batch for the weights; the input gradient is free."""
        elements = batch * count(inputs[0])
        if phase is Phase.INPUT_GRAD:
            return ()
        return (memory((2 if phase is Phase.FORWARD else 1) * elements, elements),)


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyMax(Layer):
    """Largest of a rank's logits at each position, so that exponentials stay small; no gradient goes through it."""

    vocab_size: int

    kind: ClassVar[str] = "vocabulary_max"
    makes_fp32: ClassVar[bool] = True
    has_gradient: ClassVar[bool] = False

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the positions."""
        return inputs[0][:-1]

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return one read."""
        elements = batch * count(inputs[0])
        return (memory(elements, elements),) if phase is Phase.FORWARD else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularySum(Layer):
    """Sum of the exponentials of a rank's logits, less the largest of all: (logits, largest) -> one a position."""

    vocab_size: int

    kind: ClassVar[str] = "vocabulary_sum"
    num_inputs: ClassVar[int] = 2
    makes_fp32: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the positions."""
        return inputs[1]

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return read and write either way: with the largest, what cross entropy does at once."""
        elements = batch * count(inputs[0])
        if phase is Phase.WEIGHT_GRAD:
            return ()
        return (memory(2 * elements, (4 if phase is Phase.FORWARD else 5) * elements),)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the exponentials."""
        return float(FLOAT_BYTES * batch * count(inputs[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyTarget(Layer):
    """Logit of the target less the largest of all where this rank has it, else zero: (logits, largest) -> one each."""

    vocab_size: int

    kind: ClassVar[str] = "vocabulary_target"
    num_inputs: ClassVar[int] = 2
    makes_fp32: ClassVar[bool] = True
    reads_targets: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the positions."""
        return inputs[1]

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return a logit, a target and a result a position."""
        return (memory(3 * batch * count(inputs[1])),) if phase is not Phase.WEIGHT_GRAD else ()

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the targets' numbers on this rank and of the mask."""
        return float((INDEX_BYTES + FLAG_BYTES) * batch * count(inputs[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyLoss(Loss):
    """Cross entropy from what the ranks have summed, averaged over all positions: (sum, target) -> a scalar."""

    vocab_size: int

    kind: ClassVar[str] = "vocabulary_loss"
    num_inputs: ClassVar[int] = 2
    saves_input: ClassVar[bool] = True
    reads_targets: ClassVar[bool] = False

    def target_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the positions."""
        return inputs[0]

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return a logarithm and a difference a position, and their gradients."""
        return (memory(2 * batch * count(inputs[0])),) if phase is not Phase.WEIGHT_GRAD else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyStatistics(Layer):
    """What ranks of a pipeline must know of a rank's logits: (largest, sum of exponentials, target's logit) a position.

    They stand in the row of the rank that made them, between zeros, so that a sum over the ranks joins them all: one
    meeting in place of the three sums of tensor parallelism (online softmax; Yeung et al. 2024, arXiv 2411.05288,
    algorithm 1).
    """

    vocab_size: int
    num_ranks: int

    kind: ClassVar[str] = "vocabulary_statistics"
    makes_fp32: ClassVar[bool] = True
    reads_targets: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the positions, and three numbers of each rank for each."""
        return (*inputs[0][:-1], self.num_ranks, STATISTICS)

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the pass of the largest, and read and write either way: what cross entropy does at once."""
        elements = batch * count(inputs[0])
        if phase is Phase.WEIGHT_GRAD:
            return ()
        if phase is Phase.INPUT_GRAD:
            return (memory(2 * elements, 5 * elements),)
        return (memory(elements, elements), memory(2 * elements, 4 * elements))

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the exponentials, of where the targets' logits stand, and of the mask of those here."""
        elements, positions = batch * count(inputs[0]), batch * count(inputs[0][:-1])
        return float(FLOAT_BYTES * elements + (2 * INDEX_BYTES + FLAG_BYTES) * positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsLoss(VocabularyLoss):
    """Cross entropy from the joined statistics of all ranks, averaged over all positions."""

    kind: ClassVar[str] = "statistics_loss"
    num_inputs: ClassVar[int] = 1

    def target_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the positions."""
        return inputs[0][:-2]
