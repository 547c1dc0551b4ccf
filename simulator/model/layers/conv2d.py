"""Two-dimensional convolution as one matrix product over unfolded patches (im2col)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from simulator.inputs.fields import PositiveInt
from simulator.model.layers.base import (
    Kernel,
    Layer,
    LayerSpec,
    Phase,
    Shape,
    ShapeError,
    count,
    expect_rank,
    matmul,
    memory,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2d(Layer):
    """Square-kernel convolution: (in_channels, H, W) -> (out_channels, H', W').

    Notes
    -----
    Each output pixel needs a patch of in_channels x kernel x kernel inputs. Unfolding puts all patches side by side, so
    each input element appears about (kernel / stride)^2 times: the *duplication factor*. The product is then
    (pixels x patch) @ (patch x out_channels). Written to memory, the unfolded matrix costs its bytes twice (Chellapilla
    et al. 2006), and ``bytes_moved`` says so; libraries gather patches on the chip while they multiply (implicit GEMM:
    NVIDIA CUTLASS, "CUTLASS Convolution"; cuDNN's IMPLICIT_GEMM algorithms), so the kernels move input, weights and
    output alone.
    """

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True

    kind: ClassVar[str] = "conv2d"
    saves_input: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (out_channels, H', W') with H' = (H + 2 padding - kernel) // stride + 1."""
        (shape,) = inputs
        expect_rank("conv2d", shape, 3, "channels, height, width")
        if shape[0] != self.in_channels:
            raise ShapeError(f"conv2d expects {self.in_channels} input channels, got {shape[0]} in {list(shape)}")
        sides = [(side + 2 * self.padding - self.kernel) // self.stride + 1 for side in shape[1:]]
        if min(sides) < 1:
            raise ShapeError(
                f"conv2d kernel {self.kernel} is larger than the padded image "
                f"{shape[1] + 2 * self.padding} x {shape[2] + 2 * self.padding}",
                "use a smaller kernel or more padding",
            )
        return (self.out_channels, *sides)

    def parameters(self) -> dict[str, Shape]:
        """Return weight (out_channels, in_channels, kernel, kernel) and bias (out_channels,)."""
        weight: dict[str, Shape] = {"weight": (self.out_channels, self.in_channels, self.kernel, self.kernel)}
        return weight | {"bias": (self.out_channels,)} if self.bias else weight

    def patch(self) -> int:
        """Return the elements of one unfolded patch: in_channels x kernel^2."""
        return self.in_channels * self.kernel**2

    def duplication(self, inputs: tuple[Shape, ...]) -> float:
        """Return how many times unfolding stores each input element on average."""
        _, height, width = self.output_shape(inputs)
        return height * width * self.patch() / count(inputs[0])

    def kernels(self, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> tuple[Kernel, ...]:
        """Return the product of a phase, and the sum over pixels that the bias gradient is."""
        _, height, width = self.output_shape(inputs)
        pixels, patch = batch * height * width, self.patch()
        sizes = {
            Phase.FORWARD: (pixels, self.out_channels, patch),
            Phase.INPUT_GRAD: (pixels, patch, self.out_channels),
            Phase.WEIGHT_GRAD: (self.out_channels, patch, pixels),
        }[phase]
        moved = batch * count(inputs[0]) + patch * self.out_channels + pixels * self.out_channels
        product = replace(matmul(*sizes), elements=float(moved))
        if not self.bias or phase is not Phase.WEIGHT_GRAD:
            return (product,)
        return (product, memory(pixels * self.out_channels))

    def bytes_moved(self, phase: Phase, inputs: tuple[Shape, ...], batch: int, itemsize: int) -> float:
        """Return the memory traffic of one phase in bytes, with unfolded patches that are written and read."""
        _, height, width = self.output_shape(inputs)
        unfolded = batch * height * width * self.patch()
        return 2.0 * itemsize * unfolded + Layer.bytes_moved(self, phase, inputs, batch, itemsize)


class Conv2dSpec(LayerSpec):
    """``kind: conv2d``; in_channels follows from the input and is checked when given."""

    kind: Literal["conv2d"]
    out_channels: PositiveInt
    kernel: PositiveInt
    in_channels: PositiveInt | None = None
    stride: PositiveInt = 1
    padding: Annotated[int, Field(ge=0, strict=True)] = 0
    bias: bool = True

    def build(self, inputs: tuple[Shape, ...]) -> Conv2d:
        """Return the layer for this input."""
        expect_rank("conv2d", inputs[0], 3, "channels, height, width")
        return Conv2d(
            in_channels=self.in_channels or inputs[0][0],
            out_channels=self.out_channels,
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            bias=self.bias,
        )
