"""Parameter updates: torch's optimizers on fp32 masters, gradients in buckets that are reduced as one tensor."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from executor.stage import StageModule
from simulator.plan.plan import Optimizer


class Gradients:
    """Storage of a stage's gradients: each bucket one flat tensor, of which the parameters' gradients are views.

    Autograd then accumulates straight into what is sent (torch DDP's ``gradient_as_bucket_view``).

    Attributes
    ----------
    parameters, buckets
        Of each bucket: its parameters, and their gradients in one.
    """

    def __init__(self, module: StageModule) -> None:
        buckets = [
            [p for name in bucket.nodes for p in module.module_of(name).weights.values()]
            for bucket in module.stage.buckets
        ]
        bucketed = {id(p) for bucket in buckets for p in bucket}
        sizes = [bucket.elements for bucket in module.stage.buckets]
        self.parameters = buckets
        self.buckets = [_flat(bucket, size) for bucket, size in zip(buckets, sizes, strict=True)]
        rest = [p for p in module.parameters() if id(p) not in bucketed]
        self._all = [*self.buckets, *([_flat(rest, sum(p.numel() for p in rest))] if rest else [])]

    def zero(self) -> None:
        """Forget the last step."""
        for flat in self._all:
            flat.zero_()


def _flat(parameters: list[nn.Parameter], size: int) -> Tensor:
    """Return one zeroed tensor of ``size`` elements and make each parameter's gradient a view of it."""
    first = parameters[0]
    flat = torch.zeros(size, dtype=first.dtype, device=first.device)
    offset = 0
    for parameter in parameters:
        parameter.grad = flat[offset : offset + parameter.numel()].view_as(parameter)
        offset += parameter.numel()
    return flat


class Update:
    """One optimizer step over a list of parameters.

    Parameters
    ----------
    parameters
        Those that compute; under bf16 an fp32 master of each is what the optimizer changes.
    spec
        Kind and step size.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], spec: Optimizer) -> None:
        self._parameters = list(parameters)
        self._masters = [p if p.dtype is torch.float32 else nn.Parameter(p.detach().float()) for p in self._parameters]
        self._optimizer = _optimizer(self._masters, spec) if self._masters else None

    @torch.no_grad()
    def step(self) -> None:
        """Update."""
        if self._optimizer is None:
            return
        for parameter, master in zip(self._parameters, self._masters, strict=True):
            if master is not parameter:
                assert parameter.grad is not None
                master.grad = parameter.grad.float()
        self._optimizer.step()
        for parameter, master in zip(self._parameters, self._masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)
                master.grad = None


def _optimizer(parameters: list[nn.Parameter], spec: Optimizer) -> torch.optim.Optimizer:
    if spec.kind == "adam":
        return torch.optim.Adam(parameters, lr=spec.learning_rate, fused=True)
    momentum = spec.momentum if spec.kind == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr=spec.learning_rate, momentum=momentum, fused=True)
