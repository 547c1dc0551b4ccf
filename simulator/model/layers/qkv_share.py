"""The projection to q, k and v where ranks outnumber the heads of keys and values: parts of heads, joined again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from simulator.model.layers.base import Kernel, Layer, Phase, Shape, ShapeError, count, matmul, memory
from simulator.model.layers.qkv import Qkv


@dataclass(frozen=True, slots=True, kw_only=True)
class QkvShare(Layer):
    """One rank's rows of queries, of keys and of values; those of keys and values are less than a head.

    Parameters
    ----------
    whole
        The projection of the model.
    num_ranks
        Ranks that share it.
    """

    whole: Qkv
    num_ranks: int

    kind: ClassVar[str] = "qkv_share"
    saves_input: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """Local features of queries, keys and values together."""
        return self.whole.width // self.num_ranks

    def parts(self, parameter: str) -> tuple[int, ...]:
        """Return the local rows of q, k and v."""
        return tuple(rows // self.num_ranks for rows in self.whole.parts(parameter))

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (sequence, width)."""
        return (self.whole.output_shape(inputs)[0], self.width)

    def parameters(self) -> dict[str, Shape]:
        """Return weight (width, hidden) and bias (width,)."""
        bias: dict[str, Shape] = {"bias": (self.width,)} if self.whole.bias else {}
        return {"weight": (self.width, self.whole.hidden), **bias}

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the product of a phase, and the sum of the bias's gradient."""
        tokens, hidden = batch * count(inputs[0][:-1]), self.whole.hidden
        if phase is Phase.FORWARD:
            return (matmul(tokens, self.width, hidden),)
        if phase is Phase.INPUT_GRAD:
            return (matmul(tokens, hidden, self.width),)
        sums = (memory(tokens * self.width),) if self.whole.bias else ()
        return (matmul(self.width, hidden, tokens), *sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnHeads(Layer):
    """What a rank needs of the rows that all ranks have made: its heads of queries, and the head that they share.

    Parameters
    ----------
    whole
        The projection of the model.
    num_ranks
        Ranks that share it.
    """

    whole: Qkv
    num_ranks: int

    kind: ClassVar[str] = "own_heads"

    @property
    def local(self) -> Qkv:
        """The projection that would make just these heads."""
        return replace(self.whole, num_heads=self.whole.num_heads // self.num_ranks, num_kv_heads=1)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (sequence, heads of q, one of k and one of v)."""
        (shape,) = inputs
        if shape[-1] != self.whole.width:
            raise ShapeError(f"expected {self.whole.width} features of q, k and v, got {shape[-1]} in {list(shape)}")
        return (*shape[:-1], self.local.width)

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the copy, backward with zeros around it, and the pass that turns queries and keys."""
        if phase is Phase.WEIGHT_GRAD:
            return ()
        rows = batch * count(inputs[0][:-1])
        around = self.whole.width if phase is Phase.INPUT_GRAD else self.local.width
        turned = rows * self.local.turned
        rope = (memory(2 * turned, 3 * turned),) if self.whole.rope else ()
        return (memory(rows * (self.local.width + around)), *rope)
