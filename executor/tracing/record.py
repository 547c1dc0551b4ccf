"""What a group costs for one number of samples: it runs on fake tensors, and every kernel is written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from executor.tracing.functions import function_of
from executor.tracing.groups import Group, Grouping
from executor.tracing.kernels import RawKernel, kernels_of


@dataclass(slots=True)
class Record:
    """What one run of a group showed.

    Parameters
    ----------
    shape
        Of the output, batch and all.
    forward, input_grad, weight_grad
        Kernels of each phase.
    keeps_inputs, keeps_output
        Which of them backward reads.
    keeps, keeps_bytes
        Bytes of real numbers, and of others, that it keeps beside them.
    view
        Whether the output lies in the storage of the first input.
    passes_gradient
        Whether the inputs' gradients lie where the output's does.
    """

    shape: tuple[int, ...]
    forward: list[RawKernel]
    input_grad: list[RawKernel] = field(default_factory=list)
    weight_grad: list[RawKernel] = field(default_factory=list)
    keeps_inputs: list[int] = field(default_factory=list)
    keeps_output: bool = False
    keeps: int = 0
    keeps_bytes: int = 0
    view: bool = False
    passes_gradient: bool = False


class _Recorder(TorchDispatchMode):
    """Writes down every operator that torch runs, backward too."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[RawKernel] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        self.kernels += kernels_of(function, args, kwargs or {}, result)
        return result


class _Keeper:
    """Collects what autograd saves."""

    def __init__(self) -> None:
        self.saved: dict[int, Tensor] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        self.saved[tensor.untyped_storage()._cdata] = tensor
        return tensor


def record(grouping: Grouping, group: Group) -> Record:
    """Run a group forward and backward on fake tensors."""
    exported = grouping.exported
    function = function_of(group, exported.operators)
    with exported.mode:
        reads = [_leaf(exported.values[node], grouping.is_trainable(node)) for node in group.reads]
        parameters = [_leaf(exported.values[node], True) for node in group.parameters]
        constants = [_leaf(exported.values[node], False) for node in group.constants]
        keeper = _Keeper()
        with _Recorder() as forward, saved_tensors_hooks(keeper.pack, lambda tensor: tensor):
            output = function(*reads, *parameters, *constants)
        found = Record(tuple(output.shape), forward.kernels)
        _backward(found, output, [each for each in reads if each.requires_grad], parameters)
    _note_saved(found, keeper.saved, reads, output, {_storage(each) for each in (*parameters, *constants)})
    found.view = bool(reads) and _storage(output) == _storage(reads[0])
    return found


def _leaf(value: Tensor, trainable: bool) -> Tensor:
    """Return a tensor like a value, in storage of its own."""
    fresh = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
    return fresh.requires_grad_(trainable and value.is_floating_point())


def _backward(found: Record, output: Tensor, reads: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
    """Write down both halves of backward; what the weights' half runs again counts once."""
    if not output.requires_grad:
        return
    gradient = torch.empty_like(output)

    def half(wanted: Sequence[Tensor]) -> tuple[list[RawKernel], list[Tensor]]:
        if not wanted:
            return [], []
        with _Recorder() as recorder:
            made: tuple[Tensor | None, ...] = torch.autograd.grad(
                output, wanted, gradient, retain_graph=True, allow_unused=True
            )
        return recorder.kernels, [each for each in made if each is not None]

    found.input_grad, made = half(reads)
    found.passes_gradient = bool(made) and all(_storage(each) == _storage(gradient) for each in made)
    seen = Counter(kernel.key for kernel in found.input_grad)
    for kernel in half(parameters)[0]:
        if seen[kernel.key]:
            seen[kernel.key] -= 1
        else:
            found.weight_grad.append(kernel)


def _note_saved(
    found: Record, saved: Mapping[int, Tensor], reads: Sequence[Tensor], output: Tensor, own: set[int]
) -> None:
    """Sort what autograd saved: inputs, output, what stands in memory anyway, and the rest."""
    inputs = [_storage(each) for each in reads]
    found.keeps_inputs = [place for place, storage in enumerate(inputs) if storage in saved]
    found.keeps_output = _storage(output) in saved and _storage(output) not in inputs
    for storage, tensor in saved.items():
        if storage in (*inputs, _storage(output)) or storage in own:
            continue
        size = tensor.untyped_storage().nbytes()
        if tensor.is_floating_point():
            found.keeps += size
        else:
            found.keeps_bytes += size


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
