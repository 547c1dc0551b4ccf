"""What an exchange does to a tensor: a collective over its first axis, and the axes put where the layer wants them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from executor.transport import Handle, Transport
from simulator.model.layers import Exchange
from simulator.program.instructions import Stream

Exchanged = tuple[list[Handle], Callable[[], Tensor]]
"""Handles to wait on, and what returns the result when all are done."""


def exchange(transport: Transport, stream: Stream, layer: Exchange, tensor: Tensor) -> Exchanged:
    """Begin what a layer does forward to a micro-batch of a tensor."""
    return _begin(transport, stream, layer, layer.forward, tensor, (layer.joined, layer.shared), +1)


def exchange_back(transport: Transport, stream: Stream, layer: Exchange, gradient: Tensor) -> Exchanged:
    """Begin what a layer does backward to the gradient of its output: what was joined is shared out."""
    return _begin(transport, stream, layer, layer.backward, gradient, (layer.shared, layer.joined), -1)


def _begin(
    transport: Transport,
    stream: Stream,
    layer: Exchange,
    operation: str,
    tensor: Tensor,
    dimensions: tuple[int, int],
    step: int,
) -> Exchanged:
    # Behind the batch.
    joined, shared = (dimension + 1 for dimension in dimensions)
    match operation:
        case "all_reduce":
            return [transport.all_reduce(stream, tensor, layer.maximum)], lambda: tensor
        case "broadcast":
            whole = tensor.clone()
            return [transport.broadcast(stream, whole, layer.root)], lambda: whole
        case "all_gather" if layer.in_parts:
            whole = tensor.contiguous()
            part = whole.view(-1).chunk(layer.num_ranks)[transport.place(stream)].clone()
            return [transport.all_gather(stream, whole.view(-1), part)], lambda: whole
        case "all_gather":
            part = tensor.contiguous()
            parts = part.new_empty((layer.num_ranks, *part.shape))
            return [transport.all_gather(stream, parts.flatten(0, 1), part)], lambda: _join(parts, joined)
        case "reduce_scatter":
            parts = _share(tensor, shared, layer.num_ranks)
            part = parts[transport.place(stream)]
            return [transport.reduce_scatter(stream, parts.flatten(0, 1), part)], part.clone
        case "all_to_all":
            parts = _share(_mixed(tensor, shared, layer) if step > 0 else tensor, shared, layer.num_ranks)
            received = torch.empty_like(parts)
            handle = transport.all_to_all(stream, received, parts)
            if step > 0:
                return [handle], lambda: _join(received, joined)
            return [handle], lambda: _sorted(_join(received, joined), joined, layer)
        case "shift":
            part = tensor.contiguous()
            received = torch.empty_like(part)
            return transport.shift(stream, received, part, step), lambda: received
    raise ValueError(f"{operation} exchanges nothing")


def _mixed(tensor: Tensor, dimension: int, layer: Exchange) -> Tensor:
    """Return a tensor whose parts lie side by side with each rank's share of all of them together."""
    if not layer.sections:
        return tensor
    shares = [part.chunk(layer.num_ranks, dimension) for part in tensor.split(list(layer.sections), dimension)]
    return torch.cat([share for rank in zip(*shares, strict=True) for share in rank], dimension)


def _sorted(tensor: Tensor, dimension: int, layer: Exchange) -> Tensor:
    """Return what ``_mixed`` was given."""
    if not layer.sections:
        return tensor
    sizes = [size // layer.num_ranks for size in layer.sections]
    ranks = [rank.split(sizes, dimension) for rank in tensor.chunk(layer.num_ranks, dimension)]
    return torch.cat([share for part in zip(*ranks, strict=True) for share in part], dimension)


def _join(parts: Tensor, dimension: int) -> Tensor:
    """Return the parts of all ranks, first axis, one behind the other along a dimension."""
    return parts.movedim(0, dimension).flatten(dimension, dimension + 1)


def _share(tensor: Tensor, dimension: int, num_ranks: int) -> Tensor:
    """Return the parts of a tensor along a dimension, one for each rank, as the first axis."""
    return tensor.unflatten(dimension, (num_ranks, -1)).movedim(dimension, 0).contiguous().clone()
