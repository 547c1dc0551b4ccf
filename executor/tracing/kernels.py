"""An operator that torch runs, as the simulator's kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

ATEN = torch.ops.aten

FLASH = (ATEN._scaled_dot_product_flash_attention_for_cpu, ATEN._scaled_dot_product_flash_attention_for_cpu_backward)
"""Forward and backward of torch's fused attention on CPUs, which stands for that of any device."""

FREE = (ATEN.empty, ATEN.empty_like, ATEN.empty_strided, ATEN.new_empty, ATEN.new_empty_strided, ATEN.detach)
"""Operators that move nothing."""


@dataclass(frozen=True, slots=True)
class RawKernel:
    """One kernel for one number of samples.

    Parameters
    ----------
    kind
        As in ``Kernel``.
    sizes
        Of a product m, n, k and batch; of attention what ``AttentionKernel`` says; of others bytes and FLOPs.
    causal, backward
        Of attention.
    key
        The operator and all that it was given: the same key is the same work.
    """

    kind: str
    sizes: Mapping[str, int]
    causal: bool = False
    backward: bool = False
    key: str = ""


def kernels_of(function: Any, args: tuple[Any, ...], options: Mapping[str, Any], result: Any) -> list[RawKernel]:
    """Return the kernels of one operator; none for views."""
    packet = function.overloadpacket
    made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
    read = [each for each in tree_leaves((args, options)) if isinstance(each, Tensor)]
    if packet in FREE or not made:
        return []
    key = f"{function} {_described(args)} {_described(options)}"
    if products := list(_products(packet, args, result)):
        return [RawKernel("matmul", sizes, key=f"{key} {place}") for place, sizes in enumerate(products)]
    if packet in FLASH:
        return [_attention(packet is FLASH[1], args, key)]
    known = {each.untyped_storage()._cdata for each in read}
    fresh = [each for each in made if each.untyped_storage()._cdata not in known]
    if not fresh and not function._schema.is_mutable:
        return []
    moved = sum(_bytes(each) for each in read) + sum(_bytes(each) for each in made)
    flops = sum(each.numel() for each in made) if torch.Tag.pointwise in function.tags else 0
    return [RawKernel("memory", {"bytes": moved, "flops": flops}, key=key)]


def _products(packet: Any, args: tuple[Any, ...], result: Any) -> Iterator[dict[str, int]]:
    """Yield the products of an operator."""
    if packet in (ATEN.mm, ATEN.addmm):
        left, right = args[-2:] if packet is ATEN.mm else args[1:3]
        yield {"m": left.shape[0], "n": right.shape[1], "k": left.shape[1], "batch": 1}
    elif packet in (ATEN.bmm, ATEN.baddbmm):
        left, right = args[:2] if packet is ATEN.bmm else args[1:3]
        yield {"m": left.shape[1], "n": right.shape[2], "k": left.shape[2], "batch": left.shape[0]}
    elif packet is ATEN.convolution:
        yield _convolution(result, args[0], args[1], args[6], args[8])
    elif packet is ATEN.convolution_backward:
        gradient, x, weight, transposed, groups, wanted = *args[:3], args[7], args[9], args[10]
        forward = _convolution(gradient, x, weight, transposed, groups)
        if wanted[0]:
            yield {**forward, "n": forward["k"], "k": forward["n"]}
        if wanted[1]:
            yield {"m": forward["n"], "n": forward["k"], "k": forward["m"], "batch": groups}


def _convolution(output: Tensor, x: Tensor, weight: Tensor, transposed: bool, groups: int) -> dict[str, int]:
    """Return a convolution as a product over unfolded patches, one for each group of channels."""
    side = x if transposed else output
    pixels = side.shape[0] * math.prod(side.shape[2:])
    return {"m": pixels, "n": weight.shape[0] // groups, "k": math.prod(weight.shape[1:]), "batch": groups}


def _attention(backward: bool, args: tuple[Any, ...], key: str) -> RawKernel:
    query, keys, values = args[1:4] if backward else args[:3]
    causal = bool(args[7] if backward else args[4] if len(args) > 4 else False)
    sizes = {
        "heads": query.shape[0] * query.shape[1],
        "queries": query.shape[2],
        "keys": keys.shape[2],
        "size": query.shape[3],
        "value_size": values.shape[3],
        "shared": query.shape[1] // keys.shape[1],
    }
    return RawKernel("attention", sizes, causal, backward, key)


def _bytes(tensor: Tensor) -> int:
    """Return the bytes that a tensor takes in memory; broadcast ones are read once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _described(tree: Any) -> str:
    return " ".join(
        f"{tuple(each.shape)}{each.stride()}" if isinstance(each, Tensor) else repr(each) for each in tree_leaves(tree)
    )
