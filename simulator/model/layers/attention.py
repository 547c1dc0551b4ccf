"""The core of self-attention: scores, softmax and context of the heads, between the projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.inputs.fields import PositiveInt
from simulator.model.layers.base import (
    FLOAT_BYTES,
    Kernel,
    Layer,
    LayerSpec,
    Phase,
    Shape,
    ShapeError,
    expect_rank,
    fused_attention,
    matmul,
    memory,
)
from simulator.model.layers.dropout import MASK_BYTES, DropRate, drop
from simulator.model.layers.linear import Linear
from simulator.model.layers.qkv import Qkv


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Layer):
    """Scaled dot-product attention: (sequence, q then k then v of all heads) -> (sequence, heads x head_dim).

    Parameters
    ----------
    num_heads, num_kv_heads, head_dim
        Sizes; under tensor parallelism the numbers of *local* heads.
    causal
        Mask the future. FLOPs are counted for the full square either way, as PaLM appendix B and torchtitan do.
    flash
        Whether one kernel does it all without writing the scores to memory.
    window
        Keys that a query sees, its own the last of them (sliding window, arXiv 2004.05150); None for all before it. A
        fused kernel computes the band alone, a materialised one the whole square.
    dropout
        Share of the weights of the values that is dropped.

    Notes
    -----
    Per sample, with s the sequence and a heads of size d: scores 2 a s^2 d, context 2 a s^2 d (Korthikanti et al. 2022,
    arXiv 2205.05198, appendix A). Flash attention keeps q, k, v, its output and one number a row, the logarithm of the
    sum of exponentials. Otherwise the scores are materialised: copies of q, k, v and the softmax output are kept,
    keys and values once for each head of the queries; with dropout also its mask and what it leaves of the softmax
    output. Flash attention draws its masks again in backward.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    causal: bool = True
    flash: bool = False
    window: int | None = None
    dropout: float = 0.0

    kind: ClassVar[str] = "attention"
    shards: ClassVar[tuple[int, ...]] = (0,)

    @property
    def draws(self) -> bool:  # type: ignore[override]
        """Whether it drops anything."""
        return self.dropout > 0

    @property
    def saves_input(self) -> bool:  # type: ignore[override]
        """Flash attention keeps q, k and v where they lie."""
        return self.flash

    @property
    def saves_output(self) -> bool:  # type: ignore[override]
        """Backward of flash attention reads the output."""
        return self.flash

    @property
    def width(self) -> int:
        """Features of all local heads together."""
        return self.num_heads * self.head_dim

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (sequence, width)."""
        (shape,) = inputs
        expect_rank("attention", shape, 2, "sequence, features of q, k and v")
        wanted = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        if shape[1] != wanted:
            raise ShapeError(f"attention expects {wanted} features of q, k and v, got {shape[1]} in {list(shape)}")
        return (shape[0], self.width)

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the products and softmax passes of one phase; there are no weights."""
        queries, keys, groups = inputs[0][0], inputs[-1][0], batch * self.num_heads
        if phase is Phase.WEIGHT_GRAD:
            return ()
        if self.flash:
            fused = fused_attention(
                batch=groups,
                queries=queries,
                keys=keys,
                size=self.head_dim,
                value_size=self.head_dim,
                shared=self.num_heads // self.num_kv_heads,
                causal=self.causal,
                backward=phase is Phase.INPUT_GRAD,
                window=self.window,
            )
            return (fused,)
        square = groups * queries * keys
        scores = matmul(queries, keys, self.head_dim, groups)
        context = matmul(queries, self.head_dim, keys, groups)
        dropped, softmax = drop(square, phase) if self.dropout else (), self.softmax(phase, square)
        if phase is Phase.FORWARD:
            return (scores, softmax, *dropped, context)
        # d(context) needs two products (towards the probabilities and the values), d(scores) two more.
        return (scores, context, *dropped, softmax, context, context)

    def softmax(self, phase: Phase, scores: float) -> Kernel:
        """Return the pass that makes weights of so many scores, or gradients of scores of those of weights."""
        return memory(2 * scores, 5 * scores) if phase is Phase.FORWARD else memory(3 * scores, 4 * scores)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of flash attention's sums, or of q, k, v, the softmax output, what is left of it, and masks."""
        queries, keys = inputs[0][0], inputs[-1][0]
        if self.flash:
            return float(FLOAT_BYTES * batch * self.num_heads * queries)
        mask = queries * keys if self.causal else 0
        square = batch * queries * self.num_heads * keys
        copied = batch * (queries + 2 * keys) * self.width
        dropped = (MASK_BYTES + itemsize) * square if self.dropout else 0
        return float(itemsize * (copied + square) + dropped + MASK_BYTES * mask)

    def gradient_bytes_inside(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the gradients towards the softmax output and the scores; fused attention writes neither."""
        square = batch * self.num_heads * inputs[0][0] * inputs[-1][0]
        return 0.0 if self.flash else float(2 * itemsize * square)


class AttentionSpec(LayerSpec):
    """``kind: attention``, with its projections; the hidden size follows from the input."""

    kind: Literal["attention"]
    num_heads: PositiveInt
    num_kv_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    causal: bool = True
    bias: bool = True
    rope: bool = False
    flash: bool = False
    dropout: DropRate = 0.0

    def expand(self, inputs: tuple[Shape, ...]) -> tuple[tuple[str, Layer], ...]:
        """Return projection, core and output projection; the last one has the entry's name."""
        expect_rank("attention", inputs[0], 2, "sequence, hidden")
        hidden, heads = inputs[0][1], self.num_heads
        shared = self.num_kv_heads or heads
        _divides("num_kv_heads", shared, "num_heads", heads)
        if self.head_dim is None:
            _divides("num_heads", heads, "the hidden size", hidden)
        size = self.head_dim or hidden // heads
        qkv = Qkv(hidden=hidden, num_heads=heads, num_kv_heads=shared, head_dim=size, bias=self.bias, rope=self.rope)
        core = Attention(
            num_heads=heads,
            num_kv_heads=shared,
            head_dim=size,
            causal=self.causal,
            flash=self.flash,
            dropout=self.dropout,
        )
        return (
            (".qkv", qkv),
            (".core", core),
            ("", Linear(in_features=heads * size, out_features=hidden, bias=self.bias)),
        )


def _divides(name: str, divisor: int, whole_name: str, whole: int) -> None:
    if whole % divisor:
        hint = "choose a divisor" + (" or give head_dim" if name == "num_heads" else "")
        raise ShapeError(f"{name} {divisor} does not divide {whole_name} {whole} (remainder {whole % divisor})", hint)
