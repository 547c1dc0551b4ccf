"""Kernels without weights that keep less than autograd would by itself: rotary positions and gated linear units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from executor.modules.tables import table

BASE = 10000.0
"""Of the wave lengths (RoFormer, arXiv 2104.09864, section 3.2.2); costs do not depend on it."""


def rotate(x_BSH: Tensor, heads: int, size: int, places_S: Tensor | None = None) -> Tensor:
    """Return a copy with the first ``heads`` heads of each row (axis 1 is the sequence) turned by their position.

    Rows stand at ``places_S``, or at all from the first on.
    """
    result: Tensor = _Rotation.apply(x_BSH, heads, size, places_S)
    return result


def gated(x: Tensor, function: str) -> Tensor:
    """Return function(first half) x second half of the features; its backward computes function again."""
    result: Tensor = _Gate.apply(x, function)
    return result


@table
def _angles(sequence: int, size: int, device: torch.device, places_S: Tensor | None) -> tuple[Tensor, Tensor]:
    places = torch.arange(sequence, device=device) if places_S is None else places_S.to(device)
    places = places.float()
    waves = BASE ** (-torch.arange(0, size, 2, device=device, dtype=torch.float32) / size)
    angles_SD = torch.outer(places, waves)
    return angles_SD.cos(), angles_SD.sin()


def _turned(x: Tensor, heads: int, size: int, direction: int, places_S: Tensor | None) -> Tensor:
    result = x.clone(memory_format=torch.contiguous_format)
    part = result[..., : heads * size].unflatten(-1, (heads, size))
    cos, sin = _angles(x.shape[1], size, x.device, places_S)
    shape = (x.shape[1], *[1] * (part.ndim - 3), size // 2)
    cos, sin = cos.view(shape), direction * sin.view(shape)
    left, right = part[..., : size // 2].float(), part[..., size // 2 :].float()
    part.copy_(torch.cat([left * cos - right * sin, right * cos + left * sin], -1))
    return result


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, heads: int, size: int, places_S: Tensor | None) -> Tensor:
        ctx.sizes = heads, size, places_S
        return _turned(x, heads, size, 1, places_S)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        heads, size, places_S = ctx.sizes
        return _turned(gradient, heads, size, -1, places_S), None, None, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function = function
        gate, up = x.chunk(2, -1)
        return _FUNCTIONS[function](gate) * up

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        gate, up = x.chunk(2, -1)
        derivative = _DERIVATIVES[ctx.function](gradient * up, gate)
        return torch.cat([derivative, gradient * _FUNCTIONS[ctx.function](gate)], -1), None


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": functional.silu, "gelu": functional.gelu}
_DERIVATIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "silu": torch.ops.aten.silu_backward,
    "gelu": torch.ops.aten.gelu_backward,
}
