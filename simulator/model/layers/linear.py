"""Dense layer: y = x W^T + b, one matrix product over all tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from simulator.inputs.fields import PositiveInt
from simulator.model.layers.base import Kernel, Layer, LayerSpec, Phase, Shape, ShapeError, count, matmul, memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Layer):
    """Dense layer over the last axis: (..., in_features) -> (..., out_features).

    Parameters
    ----------
    in_features, out_features, bias
        Sizes.
    num_parts
        Equal matrices that stand below each other in the weight, as gate and up projection of a gated MLP do; tensor
        parallelism cuts each on its own.
    weight_of
        Name of the node whose weight this one uses (a head tied to the embedding); it then has none of its own.
    copies
        It has a copy of that weight after all, because the other node stands in another pipeline stage.

    Notes
    -----
    Forward 2 T n k FLOPs for T tokens; input gradient dy W and weight gradient dy^T x cost the same again each
    (Narayanan et al. 2021, arXiv 2104.04473, appendix).
    """

    in_features: int
    out_features: int
    bias: bool = True
    num_parts: int = 1
    weight_of: str = ""
    copies: bool = False

    kind: ClassVar[str] = "linear"
    saves_input: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (..., out_features)."""
        (shape,) = inputs
        if not shape or shape[-1] != self.in_features:
            raise ShapeError(f"linear expects {self.in_features} input features, got shape {list(shape)}")
        return (*shape[:-1], self.out_features)

    def parameters(self) -> dict[str, Shape]:
        """Return weight (out_features, in_features) and bias (out_features,), but for a weight of another node."""
        own = self.copies or not self.weight_of
        weight: dict[str, Shape] = {"weight": (self.out_features, self.in_features)} if own else {}
        return weight | {"bias": (self.out_features,)} if self.bias else weight

    @property
    def has_weights(self) -> bool:
        """Also where the weight is another node's."""
        return True

    def parts(self, parameter: str) -> tuple[int, ...]:
        """Return the rows of each part."""
        return (self.out_features // self.num_parts,) * self.num_parts

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return one product a phase, and the column sum that the bias gradient is."""
        tokens = batch * count(inputs[0][:-1])
        if phase is Phase.FORWARD:
            return (matmul(tokens, self.out_features, self.in_features),)
        if phase is Phase.INPUT_GRAD:
            return (matmul(tokens, self.in_features, self.out_features),)
        weight = matmul(self.out_features, self.in_features, tokens)
        return (weight, memory(tokens * self.out_features)) if self.bias else (weight,)


class LinearSpec(LayerSpec):
    """``kind: linear``; in_features follows from the input and is checked when given."""

    kind: Literal["linear"]
    out_features: PositiveInt
    in_features: PositiveInt | None = None
    bias: bool = True
    num_parts: PositiveInt = 1
    weight_of: str = ""

    def build(self, inputs: tuple[Shape, ...]) -> Linear:
        """Return the layer for this input."""
        found = inputs[0][-1] if inputs[0] else 0
        remainder = self.out_features % self.num_parts
        if remainder:
            message = f"num_parts {self.num_parts} does not divide out_features {self.out_features}"
            raise ShapeError(f"{message} (remainder {remainder})", "a gated unit needs num_parts 2")
        return Linear(
            in_features=self.in_features or found,
            out_features=self.out_features,
            bias=self.bias,
            num_parts=self.num_parts,
            weight_of=self.weight_of,
        )
