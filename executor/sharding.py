"""Sharded parameters: each replica keeps a part of every block, and the whole only while it is read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ShardedBucket:
    """The parameters of one block in one flat tensor, filled up so that all replicas have parts of one size.

    The parameters are views of the flat tensor. What is let go of is its storage: they keep their shapes and their
    gradients, but have no values until the next gathering.

    Parameters
    ----------
    parameters
        Of the block, in the order of its gradients.
    gradient
        Flat, the whole block's: it is summed over the micro-batches before it is shared out.
    num_ranks, rank
        Replicas, and which one this is.

    Attributes
    ----------
    whole
        The flat tensor.
    part
        What this rank keeps and updates; its gradient is its part of ``gradient``.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], gradient: Tensor, num_ranks: int, rank: int) -> None:
        self.whole = torch.zeros_like(gradient)
        offset = 0
        for parameter in parameters:
            view = self.whole[offset : offset + parameter.numel()].view_as(parameter)
            view.copy_(parameter.detach())
            # Autograd counts changes of a parameter that it saved; through ``data`` it does not see the gathering,
            # which brings back the very values that it saw.
            parameter.data = view
            offset += parameter.numel()
        self.part = nn.Parameter(self.whole.chunk(num_ranks)[rank].clone())
        self.part.grad = gradient.chunk(num_ranks)[rank]
        self.release()

    def allocate(self) -> None:
        """Get memory for the whole; what stands in it is not defined yet."""
        self.whole.untyped_storage().resize_(self.whole.numel() * self.whole.element_size())

    def release(self) -> None:
        """Let go of the whole."""
        self.whole.untyped_storage().resize_(0)
