"""Stands between the executor and torch while tensors have no values: notes every message, and answers for the others.

The executor's own transport runs over torch's fake process group, whose messages move nothing. Every one of them passes
the dispatcher on its way there, where it is seen with its real tensors and its real group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

c10d, aten = torch.ops.c10d, torch.ops.aten

SIZED_BY = {
    c10d.allreduce_.default: ("all_reduce", 0),
    c10d._allgather_base_.default: ("all_gather", 0),
    c10d._reduce_scatter_base_.default: ("reduce_scatter", 1),
    c10d.alltoall_base_.default: ("all_to_all", 1),
    c10d.send.default: ("send", 0),
    c10d.recv_.default: ("receive", 0),
}
"""For each operation of torch's process groups its name, and which argument is the larger side of the message."""

NORMS = (aten.native_layer_norm.default, aten.native_batch_norm.default)
"""Operations that return statistics beside the result."""

Noted = Callable[[str, Tensor, tuple[int, ...]], None]
"""Told of each message: its operation, its tensor, and the global ranks of its group, or the other end."""


class FakeNetwork(TorchDispatchMode):
    """Sees messages, and invents what depends on values that nobody has.

    Routing is data: which expert gets how many rows. Here all get equally many, as the Program has it, so those few
    integers are real numbers; what the ranks tell each other of them is the same for all. A loss is nan. Statistics of
    norms are fp32, as GPUs keep them; torch's kernels for CPUs keep those of bf16 in bf16.

    Parameters
    ----------
    note
        Told of each message that moves floats; what ranks tell each other about routing is left out of predictions.
    """

    def __init__(self, note: Noted) -> None:
        super().__init__()
        self._note = note

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation; what has values keeps them."""
        if function is aten.bincount.default:
            return _even(args[0].numel(), *args[2:], **(kwargs or {}))
        if function is aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return math.nan if args[0].is_floating_point() else function(*args)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if function in SIZED_BY and isinstance(tensors[0], FakeTensor):
            self._note_message(function, args)
        if not tensors or any(isinstance(tensor, FakeTensor) for tensor in tensors):
            result = function(*args, **(kwargs or {}))
            return [result[0], *(each.float() for each in result[1:])] if function in NORMS else result
        with unset_fake_temporarily():
            if function is c10d.alltoall_base_.default:
                args[0].copy_(args[1])
            return function(*args, **(kwargs or {}))

    def _note_message(self, function: Any, args: tuple[Any, ...]) -> None:
        operation, place = SIZED_BY[function]
        tensor = args[place][0] if isinstance(args[place], list) else args[place]
        group = next(arg for arg in args if isinstance(arg, torch.ScriptObject))
        ranks = tuple(dist.get_process_group_ranks(dist.ProcessGroup.unbox(group)))
        if operation in ("send", "receive"):
            ranks = (ranks[args[2]],)
        self._note(operation, tensor, ranks)


def _even(rows: int, minlength: int) -> Tensor:
    """Return how many rows each expert gets, as real numbers."""
    with unset_fake_temporarily():
        return torch.arange(rows, rows + minlength) // minlength
