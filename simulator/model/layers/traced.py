"""Part of a module that somebody else wrote, as it was traced: kernels, parameters and what backward keeps.

Every number is a straight line in the micro-batch: so much whatever it is, and so much a sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import Field

from simulator.inputs.fields import NonNegativeInt, PositiveInt, StrictModel
from simulator.model.layers.base import Kernel, Layer, LayerSpec, Phase, Shape, fused_attention, matmul, memory
from simulator.model.layers.loss import Loss

Growing = Literal["m", "n", "k", "batch"]


class Line(StrictModel):
    """A size that grows with the micro-batch."""

    fixed: NonNegativeInt = 0
    per_sample: NonNegativeInt = 0

    def at(self, batch: int) -> int:
        """Return the size for ``batch`` samples."""
        return self.fixed + batch * self.per_sample


class PassKernel(StrictModel):
    """A kernel that reads and writes memory; ``elements`` of the dtype's size."""

    kind: Literal["memory"]
    elements: Line
    flops: Line = Line()

    def at(self, batch: int) -> Kernel:
        """Return the kernel for ``batch`` samples."""
        return memory(self.elements.at(batch), self.flops.at(batch))


class ProductKernel(StrictModel):
    """``batch`` products (m x k) @ (k x n); the size named by ``grows`` is that of one sample."""

    kind: Literal["matmul"]
    m: PositiveInt
    n: PositiveInt
    k: PositiveInt
    batch: PositiveInt = 1
    grows: Growing | None = None

    def at(self, batch: int) -> Kernel:
        """Return the kernel for ``batch`` samples."""
        sizes = {"m": self.m, "n": self.n, "k": self.k, "batch": self.batch}
        if self.grows:
            sizes[self.grows] *= batch
        return matmul(**sizes)


class AttentionKernel(StrictModel):
    """Fused attention; ``heads`` of one sample."""

    kind: Literal["attention"]
    heads: PositiveInt
    queries: PositiveInt
    keys: PositiveInt
    size: PositiveInt
    value_size: PositiveInt
    shared: PositiveInt = 1
    causal: bool = False
    backward: bool = False

    def at(self, batch: int) -> Kernel:
        """Return the kernel for ``batch`` samples."""
        return fused_attention(
            batch=batch * self.heads,
            queries=self.queries,
            keys=self.keys,
            size=self.size,
            value_size=self.value_size,
            shared=self.shared,
            causal=self.causal,
            backward=self.backward,
        )


TracedKernel = PassKernel | ProductKernel | AttentionKernel


class Operation(StrictModel):
    """What a traced layer does; layers that do the same share one.

    Parameters
    ----------
    shape
        Per-sample shape of the output.
    parameters
        Shape of each parameter.
    forward, input_grad, weight_grad
        Kernels of each phase.
    keeps_inputs
        Which inputs backward reads, by position.
    keeps_output
        Whether it reads the output.
    keeps, keeps_bytes
        What it keeps beside them: elements of the dtype's size, and bytes that do not depend on the dtype.
    view
        The output lies in the storage of the first input.
    passes_gradient
        Backward hands the gradient of the output on as it is.
    gradient
        Whether the output has one.
    draws
        The first place in the module that draws random numbers; empty without.
    """

    shape: list[PositiveInt] = Field(default_factory=list)
    parameters: dict[str, list[PositiveInt]] = Field(default_factory=dict)
    forward: list[TracedKernel] = Field(default_factory=list)
    input_grad: list[TracedKernel] = Field(default_factory=list)
    weight_grad: list[TracedKernel] = Field(default_factory=list)
    keeps_inputs: list[NonNegativeInt] = Field(default_factory=list)
    keeps_output: bool = False
    keeps: Line = Line()
    keeps_bytes: Line = Line()
    view: bool = False
    passes_gradient: bool = False
    gradient: bool = True
    draws: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced(Layer):
    """A traced layer.

    Parameters
    ----------
    operation
        Name of the operation; with the module it stands for the layer in messages and calibrations.
    does
        The operation.
    module
        Where the module comes from.
    """

    operation: str
    module: str
    does: Operation = field(repr=False, hash=False)

    kind: ClassVar[str] = "traced"

    @property
    def saves_output(self) -> bool:  # type: ignore[override]
        """Whether backward reads the output."""
        return self.does.keeps_output

    @property
    def saves_input(self) -> bool:  # type: ignore[override]
        """Whether backward reads any input."""
        return bool(self.does.keeps_inputs)

    def saves(self, position: int) -> bool:
        """Return whether backward reads an input."""
        return position in self.does.keeps_inputs

    def saves_for_weights(self, position: int) -> bool:
        """Return whether weight gradients may need one of the inputs: whatever is saved."""
        return self.saves(position)

    @property
    def is_view(self) -> bool:  # type: ignore[override]
        """Whether the output is a view."""
        return self.does.view

    @property
    def passes_gradient(self) -> bool:  # type: ignore[override]
        """Whether backward makes no tensor of its own."""
        return self.does.passes_gradient

    @property
    def has_gradient(self) -> bool:  # type: ignore[override]
        """Whether the output has a gradient."""
        return self.does.gradient

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape that was traced."""
        return tuple(self.does.shape)

    def parameters(self) -> dict[str, Shape]:
        """Return the parameters' shapes."""
        return {name: tuple(shape) for name, shape in self.does.parameters.items()}

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the kernels that were traced."""
        does = self.does
        traced = {Phase.FORWARD: does.forward, Phase.INPUT_GRAD: does.input_grad, Phase.WEIGHT_GRAD: does.weight_grad}
        return tuple(kernel.at(batch) for kernel in traced[phase])

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of what autograd keeps beside inputs, output and parameters."""
        return float(itemsize * self.does.keeps.at(batch) + self.does.keeps_bytes.at(batch))

    def extra_weight_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return the same: the graph of the operation stays as a whole."""
        return self.extra_saved_bytes(inputs, batch, itemsize)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedLoss(Traced, Loss):
    """The end of a module that computes its loss by itself.

    Parameters
    ----------
    target
        Per-sample shape of what it is given as the target.
    """

    target: Shape

    kind: ClassVar[str] = "traced_loss"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return () for the scalar loss."""
        return ()

    def target_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the target's shape."""
        return self.target


class TracedSpec(LayerSpec):
    """``kind: traced``: one of the file's operations."""

    kind: Literal["traced"]
    operation: str

    def made_of(self, does: Operation, module: str, target: Shape | None) -> Layer:
        """Return the layer; with a target it is the loss."""
        if target is None:
            return Traced(operation=self.operation, module=module, does=does)
        return TracedLoss(operation=self.operation, module=module, does=does, target=target)
