"""Memory of a rank: that freed memory is kept, and how many bytes of activations are held after each computation.

Counting costs time, so it happens in a step of its own that is not timed; all steps do the same.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from executor.interpreter import Interpreter
from executor.lanes import HostLanes
from simulator.units import parse_seconds

PAUSE = parse_seconds("2 ms")
"""Before a reading; waking a thread takes less."""


class Meter(AbstractContextManager[Any], Protocol):
    """Counts what was allocated since it was entered and is still held."""

    def read(self) -> float:
        """Return the bytes."""


class StorageMeter(TorchDispatchMode):
    """CPU: sees every operation, also those of autograd, and follows each storage that one of them makes.

    What stood before, parameters, gradients, data, is never made. Hooks on saved tensors would miss what else holds
    memory: tensors at borders, messages, and what put-off weight gradients keep.

    Parameters
    ----------
    pause
        Seconds before a reading in which threads may hear of messages that are done, to let go of them.
    """

    def __init__(self, pause: float = PAUSE) -> None:
        super().__init__()
        self._pause = pause
        self._alive: set[StorageWeakRef] = set()

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation; outputs in storages of their own are new, the others are views or were written in place.

        Single numbers, as losses are, do not count.
        """
        result = function(*args, **(kwargs or {}))
        known = {each.untyped_storage()._cdata for each in _tensors((args, kwargs))}
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if tensor.dim() and storage._cdata not in known:
                self._alive.add(StorageWeakRef(storage))
        return result

    def read(self) -> float:
        """Return the bytes of all storages that somebody still holds."""
        # Counting keeps the interpreter's lock busy; threads must hear of messages that are done to let go of them.
        time.sleep(self._pause)
        self._alive = {storage for storage in self._alive if not storage.expired()}
        return float(sum(_size(storage) for storage in self._alive))


def _size(storage: StorageWeakRef) -> int:
    """Return the bytes of a storage now: it may have been emptied while its tensors live on."""
    alive: torch.UntypedStorage | None = torch.UntypedStorage._new_with_weak_ptr(storage.cdata)
    return 0 if alive is None else int(alive.nbytes())


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class AllocatorMeter:
    """GPU: what the caching allocator has given out: it counts when the host issues, ahead of the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = 0

    def __enter__(self) -> AllocatorMeter:
        self._before = torch.cuda.memory_allocated(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self) -> float:
        """Return the bytes."""
        return float(torch.cuda.memory_allocated(self._device) - self._before)


def meter_for(device: torch.device) -> Meter:
    """Return the meter of a device."""
    return AllocatorMeter(device) if device.type == "cuda" else StorageMeter()


def held_bytes(interpreter: Interpreter) -> list[float]:
    """Run a step and return the bytes of activations after each of its computations."""
    held: list[float] = []
    if isinstance(interpreter.lanes, HostLanes):
        interpreter.lanes.watches_sends = True
    with meter_for(interpreter.device) as meter:
        interpreter.step(lambda: held.append(meter.read()))
    return held


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next allocation, as CUDA's caching allocator does.

    Otherwise every micro-batch gives its activations back to the kernel and faults them in again: forward of a small
    GPT then takes up to half as long again, and no two steps the same. Other C libraries are left as they are.
    """
    mmap_max, trim_threshold = -4, -1  # mallopt(3): M_MMAP_MAX, M_TRIM_THRESHOLD
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
