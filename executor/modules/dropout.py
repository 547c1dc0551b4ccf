"""Dropout whose masks are the same under every plan: an element's random number follows from its place in the model.

A counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): the number is a hash of
layer, step, sample and position, so that no rank has to know what others have drawn, and a second forward draws what
the first one drew.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from executor.modules.operations import Operations
from executor.places import Places
from simulator.model.graph import Node
from simulator.model.layers import Dropout

Parameters = Mapping[str, Tensor]
Drop = Callable[[Tensor], Tensor]
"""Zeroes elements of a tensor and scales the others up."""

GOLDEN, FIRST, SECOND = -0x61C88647, -0x7A143595, -0x3D4D51CB
"""2^32 over the golden ratio (9E3779B9), and the factors of MurmurHash3's 32-bit finaliser (85EBCA6B, C2B2AE35)."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of a micro-batch: the step, and the number of the first one in the step's global batch."""

    step: int = 0
    first: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Random numbers of one layer on one rank.

    Parameters
    ----------
    seed
        Of the layer in the whole model.
    tp_rank, places
        What of each sample the rank has; no places: whole sequences.
    """

    seed: int
    tp_rank: int = 0
    places: Places | None = None

    @classmethod
    def of(cls, node: Node, tp_rank: int = 0, places: Places | None = None) -> Draws:
        """Return those of a node."""
        return cls(seed=zlib.crc32((node.origin or node.name).encode()), tp_rank=tp_rank, places=places)

    def heads(self, number: int, exchanged: bool) -> Tensor:
        """Return a rank's heads; ``exchanged``: context-parallel ranks have given some away for whole sequences."""
        sharing, rank = (self.places.num_ranks, self.places.rank) if self.places and exchanged else (1, 0)
        return torch.arange(number) + (self.tp_rank * sharing + rank) * number

    def drop(self, rate: float, samples: Samples, *axes: Tensor) -> Drop:
        """Return what drops elements of (batch, *axes), each axis given by its places in the whole model."""

        def dropped(x: Tensor) -> Tensor:
            numbers = torch.arange(len(x)) + samples.first
            kept = _drawn(self.seed + GOLDEN * samples.step, [each.to(x.device) for each in (numbers, *axes)], rate)
            return x * kept / (1 - rate)

        return dropped


def dropout(
    ops: Operations, layer: Dropout, parameters: Parameters, x: Tensor, samples: Samples, *, draws: Draws
) -> Tensor:
    """Zero some elements and scale the others up."""
    axes = [torch.arange(size) for size in x.shape[1:]]
    if draws.places or layer.num_parts > 1:
        own = draws.places.own if draws.places else torch.arange(len(axes[0]) * layer.num_parts)
        axes[0] = own.chunk(layer.num_parts)[draws.tp_rank if layer.num_parts > 1 else 0]
    return draws.drop(layer.rate, samples, *axes)(x)


def _drawn(seed: int, axes: Sequence[Tensor], rate: float) -> Tensor:
    """Return for each element of the product of the axes whether it is kept, a hash of its place along one by one."""
    numbers = torch.tensor((seed + 2**31) % 2**32 - 2**31, dtype=torch.int32, device=axes[0].device)
    for axis in axes:
        numbers = _mixed(numbers.unsqueeze(-1) ^ (axis.to(torch.int32) * GOLDEN))
    return numbers >= int(rate * 2**32) - 2**31


def _mixed(x: Tensor) -> Tensor:
    """Return MurmurHash3's finaliser: every bit of a number changes about half of the bits of the result."""
    for bits, factor in ((16, FIRST), (13, SECOND)):
        x = (x ^ (x >> bits) & (2 ** (32 - bits) - 1)) * factor
    return x ^ (x >> 16) & (2**16 - 1)


FORWARD: dict[str, Callable[..., Any]] = {"dropout": dropout}
