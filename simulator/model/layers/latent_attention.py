"""The core of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys in two parts, narrower values."""

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
    expect_rank,
    fused_attention,
    matmul,
    memory,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention(Layer):
    """Attention over (sequence, q), (sequence, k and v of each head), (sequence, one turned key for all heads).

    Parameters
    ----------
    num_heads
        Heads, under tensor parallelism the *local* ones.
    nope_dim, rope_dim
        Features of a query or key that stay as they are, and that are turned by position.
    value_dim
        Features of a value.
    causal, flash
        As in ordinary attention.

    Notes
    -----
    As trained, not as served: keys and values are unfolded from the latent before. Queries are turned, the shared part
    of the key is turned and copied to each head, then attention has keys of nope + rope features and values of fewer.
    """

    num_heads: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    causal: bool = True
    flash: bool = False

    kind: ClassVar[str] = "latent_attention"
    num_inputs: ClassVar[int] = 3
    shards: ClassVar[tuple[int, ...]] = (0, 1)

    @property
    def saves_output(self) -> bool:  # type: ignore[override]
        """Backward of flash attention reads the output."""
        return self.flash

    @property
    def key_dim(self) -> int:
        """Features of a query or key in one head."""
        return self.nope_dim + self.rope_dim

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (sequence, heads x value_dim)."""
        wanted = (self.num_heads * self.key_dim, self.num_heads * (self.nope_dim + self.value_dim), self.rope_dim)
        for shape, features in zip(inputs, wanted, strict=True):
            expect_rank("latent attention", shape, 2, "sequence, features")
            if shape[1] != features:
                raise ShapeError(f"latent attention expects {features} features, got {shape[1]} in {list(shape)}")
        return (inputs[0][0], self.num_heads * self.value_dim)

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the passes that make q, k and v of the heads, and attention; there are no weights."""
        queries, keys, groups = inputs[0][0], inputs[1][0], batch * self.num_heads
        if phase is Phase.WEIGHT_GRAD:
            return ()
        # Turn q, join k, take v out of its place: read and write each.
        moved = queries * self.key_dim + keys * (self.key_dim + self.value_dim)
        made = memory(2 * groups * moved, 3 * groups * (queries + keys) * self.rope_dim)
        core = self._core(phase, queries, keys, groups)
        return (made, *core) if phase is Phase.FORWARD else (*core, made)

    def _core(self, phase: Phase, queries: int, keys: int, groups: int) -> tuple[Kernel, ...]:
        if self.flash:
            shape = {"batch": groups, "queries": queries, "keys": keys, "size": self.key_dim}
            shape |= {"value_size": self.value_dim, "shared": 1}
            return (fused_attention(**shape, causal=self.causal, backward=phase is Phase.INPUT_GRAD),)
        square = groups * queries * keys
        scores = matmul(queries, keys, self.key_dim, groups)
        context = matmul(queries, self.value_dim, keys, groups)
        if phase is Phase.FORWARD:
            return (scores, memory(2 * square, 5 * square), context)
        towards_scores = matmul(queries, keys, self.value_dim, groups)
        towards_keys = matmul(queries, self.key_dim, keys, groups)
        return (towards_scores, context, memory(3 * square, 4 * square), towards_keys, towards_keys)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of q, k and v as made, and of flash attention's sums or the softmax output and the mask."""
        queries, keys, groups = inputs[0][0], inputs[1][0], batch * self.num_heads
        made = itemsize * groups * (queries * self.key_dim + keys * (self.key_dim + self.value_dim))
        if self.flash:
            return float(made + FLOAT_BYTES * groups * queries)
        return float(made + itemsize * groups * queries * keys + (queries * keys if self.causal else 0))
