"""Attention of some queries over a block of keys and values, as context-parallel ranks compute it piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.model.layers.attention import Attention
from simulator.model.layers.base import FLOAT_BYTES, Kernel, Layer, Phase, Shape, ShapeError, count, memory


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAttention(Attention):
    """Attention whose queries, and keys beside values, are two tensors: (queries, heads x head_dim), (keys, k then v).

    Under a causal mask each rank has the queries of two chunks of the sequence, the one as near to its begin as the
    other to its end, so that half of the square is hidden whatever the block, and all ranks have equal work
    (Llama team 2024, arXiv 2407.21783, section 3.3.2).

    Parameters
    ----------
    distance
        Of the rank that the keys came from, around the ring; None for the keys of all ranks.
    """

    distance: int | None = None

    kind: ClassVar[str] = "block_attention"
    num_inputs: ClassVar[int] = 2

    @property
    def transient(self) -> bool:  # type: ignore[override]
        """Whether the output is a part that is merged and then gone; backward reads the merged one."""
        return self.distance is not None

    @property
    def saves_output(self) -> bool:  # type: ignore[override]
        """Backward of flash attention reads the output, the merged one where there are several."""
        return self.flash and not self.transient

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (queries, width)."""
        queries, keys = inputs
        wanted = 2 * self.num_kv_heads * self.head_dim
        if queries[1] != self.width or keys[1] != wanted:
            raise ShapeError(
                f"block attention expects {self.width} features of q and {wanted} of k and v, "
                f"got {list(queries)} and {list(keys)}"
            )
        return (queries[0], self.width)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return what attention keeps; the sums of flash attention are kept once, by what merges the parts."""
        if self.flash and self.transient:
            return 0.0
        return Attention.extra_saved_bytes(self, inputs, batch, itemsize)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeBlocks(Layer):
    """Weigh the outputs of all blocks by the logarithms of their sums of exponentials (arXiv 2310.01889).

    Each part that comes is merged into what there is. Backward of a block reads the merged output and its sum, so that
    the gradient is handed on as it is.

    Parameters
    ----------
    num_blocks, num_heads
        Parts, and heads, each of which has a sum a row.
    flash
        Whether the merged output is what backward of the blocks reads.
    """

    num_blocks: int
    num_heads: int
    flash: bool = False

    kind: ClassVar[str] = "merge_blocks"
    passes_gradient: ClassVar[bool] = True

    @property
    def saves_output(self) -> bool:  # type: ignore[override]
        """Backward of each block reads the merged output."""
        return self.flash

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of each part."""
        if len(set(inputs)) != 1 or len(inputs) != self.num_blocks:
            raise ShapeError(f"{self.num_blocks} equal parts can be merged, got {list(map(list, inputs))}")
        return inputs[0]

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the passes that read what there is and a part, and write their weighted sum; nothing backward."""
        if phase is not Phase.FORWARD:
            return ()
        elements = batch * count(inputs[0])
        return tuple(memory(3 * elements, 3 * elements) for _ in range(self.num_blocks - 1))

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the sum of each head and row."""
        return float(FLOAT_BYTES * batch * inputs[0][0] * self.num_heads)
