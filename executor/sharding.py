"""Parameters that replicas share out: each keeps and updates a part, and has the whole where it is read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from executor.optimizer import set_gradient


class SharedBucket:
    """The parameters of one bucket in one flat tensor, filled up so that all replicas have parts of one size.

    The parameters are views of the flat tensor. Where that is let go of, it is its storage: they keep their shapes and
    their gradients, but have no values until the next gathering.

    Parameters
    ----------
    parameters
        Of the bucket, in the order of its gradients.
    gradient
        Flat, the whole bucket's: it is summed over the micro-batches before it is shared out.
    num_ranks, rank
        Replicas that share out one copy, and which one this is.
    keeps_whole
        The whole always stands in memory, the part inside it (ZeRO 1 and 2); otherwise only while it is gathered.
    sums_parts
        Micro-batches are summed in the part, after each has been reduced, instead of in the whole gradient.

    Attributes
    ----------
    whole, gradient
        The flat tensors.
    part
        What this rank keeps and updates.
    own
        This rank's part of ``gradient``.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        gradient: Tensor,
        num_ranks: int,
        rank: int,
        *,
        keeps_whole: bool = False,
        sums_parts: bool = False,
    ) -> None:
        self.gradient, self.keeps_whole = gradient, keeps_whole
        self.whole = torch.zeros_like(gradient, dtype=parameters[0].dtype)
        offset = 0
        for parameter in parameters:
            view = self.whole[offset : offset + parameter.numel()].view_as(parameter)
            view.copy_(parameter.detach())
            # Autograd counts changes of a parameter that it saved; through ``data`` it does not see the gathering,
            # which brings back the very values that it saw.
            parameter.data = view
            offset += parameter.numel()
        part = self.whole.chunk(num_ranks)[rank]
        self.part = nn.Parameter(part if keeps_whole else part.clone())
        self.own = gradient.chunk(num_ranks)[rank]
        self.sum = torch.zeros_like(self.own) if sums_parts else None
        set_gradient(self.part, self.own if self.sum is None else self.sum)
        self.release()

    def accumulate(self) -> None:
        """Take over the reduced gradient of a micro-batch, if micro-batches are summed in the part."""
        if self.sum is not None:
            self.sum.add_(self.own)
            self.gradient.zero_()

    def zero(self) -> None:
        """Forget the sum of the last step."""
        if self.sum is not None:
            self.sum.zero_()

    def allocate(self) -> None:
        """Get memory for the whole; what stands in it is not defined yet."""
        if not self.keeps_whole:
            self.whole.untyped_storage().resize_(self.whole.numel() * self.whole.element_size())

    def release(self) -> None:
        """Let go of the whole."""
        if not self.keeps_whole:
            self.whole.untyped_storage().resize_(0)
