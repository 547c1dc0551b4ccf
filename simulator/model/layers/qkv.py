"""The projection to queries, keys and values: one product, and what is done to queries and keys behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.model.layers.base import (
    FLOAT_BYTES,
    Kernel,
    Layer,
    Phase,
    Shape,
    ShapeError,
    count,
    expect_rank,
    matmul,
    memory,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qkv(Layer):
    """Fused projection: (sequence, hidden) -> (sequence, all heads of q, then of k, then of v).

    Parameters
    ----------
    hidden
        Features of the input.
    num_heads, num_kv_heads, head_dim
        Sizes; fewer heads of keys and values than of queries are grouped-query attention (arXiv 2305.13245). Under
        tensor parallelism the numbers of *local* heads.
    bias
        Whether the projection has one.
    qk_norm
        Normalise each query and key head by its root mean square, as Qwen3 does.
    rope
        Turn queries and keys by their position (RoFormer, arXiv 2104.09864): one fused pass that keeps nothing.
    """

    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    bias: bool = True
    qk_norm: bool = False
    rope: bool = False

    kind: ClassVar[str] = "qkv"
    saves_input: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """Features of queries, keys and values together."""
        return sum(self.parts("weight"))

    @property
    def turned(self) -> int:
        """Features of queries and keys."""
        return (self.num_heads + self.num_kv_heads) * self.head_dim

    def parts(self, parameter: str) -> tuple[int, ...]:
        """Return the rows of q, k and v; the scales of norms are whole on every rank."""
        if parameter in ("q_norm", "k_norm"):
            return (self.head_dim,)
        return tuple(heads * self.head_dim for heads in (self.num_heads, self.num_kv_heads, self.num_kv_heads))

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (sequence, width)."""
        (shape,) = inputs
        expect_rank("attention", shape, 2, "sequence, hidden")
        if shape[1] != self.hidden:
            raise ShapeError(f"attention expects hidden size {self.hidden}, got {shape[1]} in {list(shape)}")
        return (shape[0], self.width)

    def parameters(self) -> dict[str, Shape]:
        """Return weight (width, hidden), bias (width,) and the scales of the norms (head_dim,)."""
        shapes: dict[str, Shape] = {"weight": (self.width, self.hidden)}
        if self.bias:
            shapes["bias"] = (self.width,)
        if self.qk_norm:
            shapes |= {"q_norm": (self.head_dim,), "k_norm": (self.head_dim,)}
        return shapes

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the product of a phase and the passes over queries and keys."""
        tokens = batch * count(inputs[0][:-1])
        turned = tokens * self.turned
        norm = (memory((3 if phase is Phase.INPUT_GRAD else 2) * turned, 5 * turned),) if self.qk_norm else ()
        rope = (memory(2 * turned, 3 * turned),) if self.rope else ()
        if phase is Phase.FORWARD:
            return (matmul(tokens, self.width, self.hidden), *norm, *rope)
        if phase is Phase.INPUT_GRAD:
            return (*rope, *norm, matmul(tokens, self.hidden, self.width))
        weight = matmul(self.width, self.hidden, tokens)
        return (weight, *((memory(tokens * self.width),) if self.bias else ()), *norm)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of queries and keys before their norms, and of each head's reciprocal root mean square."""
        heads = batch * count(inputs[0][:-1]) * (self.num_heads + self.num_kv_heads)
        return float(heads * (self.head_dim * itemsize + FLOAT_BYTES)) if self.qk_norm else 0.0

    def extra_weight_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return the same bytes and those of the gradients behind the norms, in one tensor with the values'."""
        tokens = batch * count(inputs[0][:-1])
        gradients = tokens * self.width * itemsize if self.qk_norm else 0
        return self.extra_saved_bytes(inputs, batch, itemsize) + gradients
