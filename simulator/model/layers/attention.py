"""Multi-head self-attention: projections, scores, softmax and context, each a matrix product or a pass over memory."""

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
    expect_rank,
    matmul,
    memory,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Layer):
    """Self-attention block: (sequence, hidden) -> (sequence, hidden).

    Parameters
    ----------
    hidden, num_heads, head_dim
        Sizes; under tensor parallelism ``num_heads`` is the number of *local* heads.
    causal
        Mask the future. FLOPs are counted for the full square either way, as PaLM appendix B and torchtitan do.
    bias, out_bias
        Biases of the query/key/value and of the output projection.

    Notes
    -----
    Per sample, with s the sequence, a heads of size d and h the hidden size: qkv 2 s h 3ad, scores 2 a s^2 d,
    context 2 a s^2 d, output 2 s ad h (Korthikanti et al. 2022, arXiv 2205.05198, appendix A). The scores are
    materialised (no flash attention): backward keeps q, k, v, the softmax output and the context.
    """

    hidden: int
    num_heads: int
    head_dim: int
    causal: bool = True
    bias: bool = True
    out_bias: bool = True

    kind: ClassVar[str] = "attention"
    saves_input: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """Features of all local heads together."""
        return self.num_heads * self.head_dim

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (sequence, hidden)."""
        (shape,) = inputs
        expect_rank("attention", shape, 2, "sequence, hidden")
        if shape[1] != self.hidden:
            raise ShapeError(f"attention expects hidden size {self.hidden}, got {shape[1]} in {list(shape)}")
        return shape

    def parameters(self) -> dict[str, Shape]:
        """Return qkv (3 width, hidden) and out (hidden, width) weights with their biases."""
        shapes: dict[str, Shape] = {"qkv_weight": (3 * self.width, self.hidden)}
        if self.bias:
            shapes["qkv_bias"] = (3 * self.width,)
        shapes["out_weight"] = (self.hidden, self.width)
        if self.out_bias:
            shapes["out_bias"] = (self.hidden,)
        return shapes

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the products and softmax passes of one phase."""
        sequence = inputs[0][0]
        tokens, groups = batch * sequence, batch * self.num_heads
        square = groups * sequence * sequence
        scores = matmul(sequence, sequence, self.head_dim, groups)
        context = matmul(sequence, self.head_dim, sequence, groups)
        if phase is Phase.FORWARD:
            qkv = matmul(tokens, 3 * self.width, self.hidden)
            out = matmul(tokens, self.hidden, self.width)
            return (qkv, scores, memory(2 * square, 5 * square), context, out)
        if phase is Phase.INPUT_GRAD:
            # d(context) needs two products (towards the probabilities and the values), d(scores) two more.
            out = matmul(tokens, self.width, self.hidden)
            qkv = matmul(tokens, self.hidden, 3 * self.width)
            return (out, scores, context, memory(3 * square, 4 * square), context, context, qkv)
        weights = (matmul(3 * self.width, self.hidden, tokens), matmul(self.hidden, self.width, tokens))
        biases = self.bias * 3 * self.width + self.out_bias * self.hidden
        return (*weights, memory(tokens * biases)) if biases else weights

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of q, k, v, the softmax output and the context, and of the mask: a byte for each score."""
        sequence = inputs[0][0]
        mask = sequence**2 if self.causal else 0
        return float(itemsize * batch * sequence * (4 * self.width + self.num_heads * sequence) + mask)

    def extra_weight_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the context, the output projection's input, and of the gradients of q, k and v."""
        return float(itemsize * batch * inputs[0][0] * 4 * self.width)


class AttentionSpec(LayerSpec):
    """``kind: attention``; the hidden size follows from the input."""

    kind: Literal["attention"]
    num_heads: PositiveInt
    head_dim: PositiveInt | None = None
    causal: bool = True
    bias: bool = True

    def build(self, inputs: tuple[Shape, ...]) -> Attention:
        """Return the layer for this input."""
        expect_rank("attention", inputs[0], 2, "sequence, hidden")
        hidden = inputs[0][1]
        if self.head_dim is None and hidden % self.num_heads:
            raise ShapeError(
                f"num_heads {self.num_heads} does not divide the hidden size {hidden} "
                f"(remainder {hidden % self.num_heads})",
                "choose a divisor or give head_dim",
            )
        return Attention(
            hidden=hidden,
            num_heads=self.num_heads,
            head_dim=self.head_dim or hidden // self.num_heads,
            causal=self.causal,
            bias=self.bias,
            out_bias=self.bias,
        )
