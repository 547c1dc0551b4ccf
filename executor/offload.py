"""Updates on the host: what only an update reads lives there, and crosses the host link in both directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from executor.optimizer import set_gradient
from executor.sharding import SharedBucket


class HostBucket:
    """A rank's part of a bucket on the host: fp32 parameters, and the sum of their gradients.

    Copies from and to a GPU do not block; memory is pinned for that. What has been copied from it is added to the sum
    once the device is known to be done, before the update.

    Parameters
    ----------
    bucket
        On the device.

    Attributes
    ----------
    parameter
        What the host updates; its gradient is the sum.
    """

    def __init__(self, bucket: SharedBucket) -> None:
        self._bucket = bucket
        self._pins = bucket.own.device.type == "cuda"
        self.parameter = nn.Parameter(self._on_host(bucket.part.detach(), torch.float32))
        self._sum = torch.zeros_like(self.parameter)
        set_gradient(self.parameter, self._sum)
        self._back = self._on_host(bucket.part.detach(), bucket.part.dtype)
        self._arrived: list[Tensor] = []

    def _on_host(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        host = torch.empty(tensor.shape, dtype=dtype, pin_memory=self._pins)
        return host.copy_(tensor)

    def take(self, empties: bool) -> None:
        """Copy the reduced gradient to the host; where every micro-batch's leaves, it begins anew on the device."""
        if self._pins:
            host = torch.empty(self._bucket.own.shape, dtype=self._bucket.own.dtype, pin_memory=True)
            self._arrived.append(host.copy_(self._bucket.own, non_blocking=True))
        else:
            self._sum.add_(self._bucket.own)
        if empties:
            self._bucket.gradient.zero_()

    def sum_up(self) -> None:
        """Add what has arrived."""
        for gradient in self._arrived:
            self._sum.add_(gradient)
        self._arrived.clear()

    @torch.no_grad()
    def updated(self) -> None:
        """Forget the sum, and round the updated parameters to what the device computes with."""
        self._sum.zero_()
        self._back.copy_(self.parameter)

    @torch.no_grad()
    def give(self) -> None:
        """Copy the updated parameters to the device."""
        self._bucket.part.copy_(self._back, non_blocking=True)
