"""Counts the work of matrix products, convolutions and attention by torch's own formulas.

``torch.utils.flop_counter.FlopCounterMode`` has the same formulas, and hooks in every module beside, which keep
gradients alive: with it activations cannot be counted in the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape))


FORMULAS: Mapping[Any, Callable[..., int]] = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""FLOPs of an operation; torch 2.13 has fused attention of GPUs alone, which on a CPU is the same under other names."""


class FlopMeter(TorchDispatchMode):
    """Sums the FLOPs of all operations, those of autograd too.

    Attributes
    ----------
    total
        FLOPs since it was entered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation."""
        result = function(*args, **(kwargs or {}))
        if formula := FORMULAS.get(function._overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result
