"""Communication inside a model: a layer without parameters that a parallel scheme puts between others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.model.layers.base import Kernel, Layer, Phase, Shape, ShapeError

NOTHING = "nothing"
"""The operation of a direction in which nothing is communicated: the tensor is handed on as it is."""

BACKWARDS = {
    NOTHING: (NOTHING, "all_reduce", "all_gather"),
    "all_reduce": (NOTHING, "all_reduce", "broadcast"),
    "broadcast": ("all_reduce",),
    "all_gather": ("reduce_scatter", NOTHING),
    "reduce_scatter": ("all_gather",),
    "all_to_all": ("all_to_all",),
    "shift": ("shift",),
}
"""For each operation forward those that may be its adjoint backward; which of two, depends on what ranks read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange(Layer):
    """Ranks of one group exchange a tensor. Made by rewritings of the graph, not written in YAML.

    An all-reduce works in place, so it is the only reader of what it reads.

    Parameters
    ----------
    axis
        Whose groups: ``tp``, ``cp``, ``ep`` or ``pp``; ``pp_root`` the latter from one member to all.
    forward, backward
        Operation on the tensor, and on the gradient on its way back: a key of ``BACKWARDS`` and one of its values.
        ``broadcast`` hands on what the ``root`` has. ``shift`` sends to the next rank of the group, receives from the
        one before; backward the other way round.
    num_ranks
        Members of a group.
    root
        Member of the group from which a broadcast comes.
    maximum
        An all-reduce finds the largest instead of the sum.
    in_parts
        What is gathered lies where the whole will lie, of which a rank has its part: as many elements as the others.
    made_again
        What it makes is not kept for backward: it runs forward again before the backward of what reads it.
    joined, shared
        Dimension of a sample along which an all-gather or all-to-all joins parts, and along which a reduce-scatter or
        all-to-all shares them out.
    sections
        Of an all-to-all: what lies side by side along the shared dimension, as queries, keys and values do; each is
        shared out on its own. Empty for one.
    transient
        Nobody keeps the output for backward: there the tensor comes again, beside its gradient.
    """

    axis: str
    forward: str
    backward: str
    num_ranks: int
    joined: int = 0
    shared: int = 0
    sections: tuple[int, ...] = ()
    transient: bool = False  # type: ignore[misc]
    root: int = 0
    maximum: bool = False
    made_again: bool = False
    in_parts: bool = False

    kind: ClassVar[str] = "exchange"
    passes_gradient: ClassVar[bool] = True

    @property
    def is_view(self) -> bool:  # type: ignore[override]
        """Only sums, and parts in their places, stay where the input was."""
        return self.forward in (NOTHING, "all_reduce") or self.in_parts

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of one rank's output."""
        if self.backward not in BACKWARDS[self.forward]:
            raise ShapeError(f"an exchange that does {self.forward} forward cannot do {self.backward} backward")
        (shape,) = inputs
        if self.in_parts:
            return shape
        sizes = list(shape)
        if self.forward in ("reduce_scatter", "all_to_all"):
            if sizes[self.shared] % self.num_ranks:
                raise ShapeError(f"{self.num_ranks} ranks cannot share {sizes[self.shared]} of {list(shape)} evenly")
            sizes[self.shared] //= self.num_ranks
        if self.forward in ("all_gather", "all_to_all"):
            sizes[self.joined] *= self.num_ranks
        return tuple(sizes)

    def sent(self, operation: str, size: float) -> tuple[str, float]:
        """Return what ranks run for one of the layer's operations on a tensor of ``size`` bytes, and its own size."""
        return operation, size

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return nothing: what ranks do to exchange tensors is part of the message's time."""
        return ()
