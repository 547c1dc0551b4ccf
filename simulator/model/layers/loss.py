"""Losses: the last layer of every graph, averaged over the micro-batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.model.layers.base import FLOAT_BYTES, Kernel, Layer, Phase, Shape, ShapeError, count, memory


class Loss(Layer):
    """Base of the losses: one input (the prediction), targets come with the data, the output is a scalar."""

    __slots__ = ()
    reads_targets: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return () for the scalar loss."""
        if not inputs[0]:
            raise ShapeError("a loss needs a prediction with at least one axis, got a scalar")
        return ()

    def target_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the per-sample shape of the targets."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanSquaredError(Loss):
    """C = mean (a - y)^2; for one neuron dC/dw = 2 x (a - y) and dC/db = 2 (a - y)."""

    kind: ClassVar[str] = "mse"
    saves_input: ClassVar[bool] = True

    def target_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the prediction's shape."""
        return inputs[0]

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return two reads forward, two reads and a write backward."""
        elements = batch * count(inputs[0])
        if phase is Phase.WEIGHT_GRAD:
            return ()
        return (memory((2 if phase is Phase.FORWARD else 3) * elements, 3 * elements),)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the prediction in fp32, where it was not in fp32 before."""
        return float(FLOAT_BYTES * batch * count(inputs[0])) if itemsize != FLOAT_BYTES else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropy(Loss):
    """Softmax cross entropy over the last axis against class ids, averaged over all positions."""

    kind: ClassVar[str] = "cross_entropy"

    def target_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the prediction's shape without the class axis."""
        return inputs[0][:-1]

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the log-softmax passes: read twice and write forward, read and write backward."""
        elements = batch * count(inputs[0])
        if phase is Phase.WEIGHT_GRAD:
            return ()
        return (memory((3 if phase is Phase.FORWARD else 2) * elements, 5 * elements),)

    def extra_saved_bytes(self, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return bytes of the log-probabilities."""
        return float(FLOAT_BYTES * batch * count(inputs[0]))
