"""Parameter updates: torch's optimizers on fp32 masters, gradients in buckets that are reduced as one tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from executor.stage import StageModule
from simulator.plan.plan import Optimizer


def set_gradient(parameter: nn.Parameter, gradient: Tensor) -> None:
    """Give a parameter the tensor that its gradients are summed in.

    Of another dtype than the parameter it cannot be ``grad``; it is then called as Megatron calls it.
    """
    if gradient.dtype is parameter.dtype:
        parameter.grad = gradient
    else:
        parameter.main_grad = gradient  # type: ignore[attr-defined]


def gradient_of(parameter: nn.Parameter) -> Tensor | None:
    """Return the tensor that a parameter's gradients are summed in."""
    main: Tensor | None = getattr(parameter, "main_grad", None)
    return parameter.grad if main is None else main


def fold_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add what a backward has left to sums of another dtype."""
    for parameter in parameters:
        main = gradient_of(parameter)
        if parameter.grad is not None and main is not None and main is not parameter.grad:
            main.add_(parameter.grad)
            parameter.grad = None


class Gradients:
    """Storage of a stage's gradients: each bucket one flat tensor, of which the parameters' gradients are views.

    Autograd then accumulates straight into what is sent (torch DDP's ``gradient_as_bucket_view``), unless sums are kept
    in another dtype than parameters.

    Parameters
    ----------
    module
        Of the stage.
    dtype
        Of the sums.

    Attributes
    ----------
    parameters, buckets
        Of each bucket: its parameters, and their gradients in one.
    alone
        Parameters in no bucket: no other rank has them.
    all
        All flat tensors.
    """

    def __init__(self, module: StageModule, dtype: torch.dtype) -> None:
        buckets = [
            [p for name in bucket.nodes for p in module.module_of(name).weights.values()]
            for bucket in module.stage.buckets
        ]
        bucketed = {id(p) for bucket in buckets for p in bucket}
        sizes = [bucket.elements for bucket in module.stage.buckets]
        self.parameters = buckets
        self.buckets = [_flat(bucket, size, dtype) for bucket, size in zip(buckets, sizes, strict=True)]
        self.alone = [p for p in module.parameters() if id(p) not in bucketed]
        rest = [_flat(self.alone, sum(p.numel() for p in self.alone), dtype)] if self.alone else []
        self.all = [*self.buckets, *rest]

    def zero(self) -> None:
        """Forget the last step."""
        for flat in self.all:
            flat.zero_()


def _flat(parameters: list[nn.Parameter], size: int, dtype: torch.dtype) -> Tensor:
    """Return one zeroed tensor of ``size`` elements and make each parameter's gradient a view of it."""
    first = parameters[0]
    flat = torch.zeros(size, dtype=dtype, device=first.device)
    offset = 0
    for parameter in parameters:
        set_gradient(parameter, flat[offset : offset + parameter.numel()].view_as(parameter))
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
        self.parameters = list(parameters)
        self.masters = [p if p.dtype is torch.float32 else nn.Parameter(p.detach().float()) for p in self.parameters]
        self._optimizer = _optimizer(self.masters, spec) if self.masters else None

    def states(self) -> list[Tensor]:
        """Return what the optimizer keeps of each parameter; nothing before the first step."""
        kept = self._optimizer.state.values() if self._optimizer else ()
        return [value for state in kept for value in state.values() if isinstance(value, Tensor) and value.dim()]

    def state(self) -> dict[str, Any]:
        """Return what the next update depends on beside parameters and gradients."""
        optimizer = self._optimizer.state_dict() if self._optimizer else {}
        return {"masters": [master.detach() for master in self._own_masters()], "optimizer": optimizer}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        for master, kept in zip(self._own_masters(), state["masters"], strict=True):
            master.copy_(kept)
        if self._optimizer:
            self._optimizer.load_state_dict(state["optimizer"])

    def _own_masters(self) -> list[Tensor]:
        pairs = zip(self.parameters, self.masters, strict=True)
        return [master for parameter, master in pairs if master is not parameter]

    @torch.no_grad()
    def step(self) -> None:
        """Update."""
        if self._optimizer is None:
            return
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                gradient = gradient_of(parameter)
                assert gradient is not None
                master.grad = gradient.float()
        self._optimizer.step()
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)
                master.grad = None


def _optimizer(parameters: list[nn.Parameter], spec: Optimizer) -> torch.optim.Optimizer:
    if spec.kind == "adam":
        return torch.optim.Adam(parameters, lr=spec.learning_rate, fused=True)
    momentum = spec.momentum if spec.kind == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr=spec.learning_rate, momentum=momentum, fused=True)
