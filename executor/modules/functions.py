"""Forward of each layer kind on a batch; autograd does the rest.

Shape suffixes: B batch, S sequence, H hidden, A heads, D head size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from executor.modules import attention, dropout, experts, vocabulary
from executor.modules.fused import gated, rotate
from executor.modules.operations import Operations
from executor.places import Places
from simulator.model.layers import (
    Activation,
    Bias,
    Conv2d,
    CrossEntropy,
    FirstTokens,
    Glu,
    Norm,
    Pool,
    Qkv,
    Slice,
)

Parameters = Mapping[str, Tensor]
Forward = Callable[..., Tensor]


def linear(ops: Operations, layer: Any, parameters: Parameters, x: Tensor) -> Tensor:
    """Dense layer."""
    return ops.linear(x, parameters["weight"], parameters.get("bias"))


def conv2d(ops: Operations, layer: Conv2d, parameters: Parameters, x: Tensor) -> Tensor:
    """Convolution; torch chooses between unfolding and direct algorithms."""
    return ops.conv2d(x, parameters["weight"], parameters.get("bias"), layer.stride, layer.padding)


def qkv(ops: Operations, layer: Qkv, parameters: Parameters, x_BSH: Tensor, *, places: Places | None = None) -> Tensor:
    """Queries, keys and values of the local heads, side by side."""
    made_BSH = ops.linear(x_BSH, parameters["weight"], parameters.get("bias"))
    if layer.qk_norm:
        turned = layer.num_heads * layer.head_dim, layer.num_kv_heads * layer.head_dim
        q_BSH, k_BSH, v_BSH = made_BSH.split([*turned, turned[1]], -1)
        heads = [
            ops.rms_norm(x.unflatten(-1, (-1, layer.head_dim)).contiguous(), parameters[name]).flatten(-2)
            for x, name in ((q_BSH, "q_norm"), (k_BSH, "k_norm"))
        ]
        made_BSH = torch.cat([*heads, v_BSH], -1)
    if layer.rope:
        own = places.own if places else None
        made_BSH = rotate(made_BSH, layer.num_heads + layer.num_kv_heads, layer.head_dim, own)
    return made_BSH


def norm(ops: Operations, layer: Norm, parameters: Parameters, x: Tensor) -> Tensor:
    """Normalisation of each row."""
    if layer.function == "rms":
        return ops.rms_norm(x, parameters["weight"])
    return ops.norm(x, parameters["weight"], parameters.get("bias"))


def batch_norm(ops: Operations, layer: Any, parameters: Parameters, x: Tensor) -> Tensor:
    """Normalisation of each channel over the micro-batch."""
    return ops.batch_norm(x, parameters["weight"], parameters["bias"])


def glu(ops: Operations, layer: Glu, parameters: Parameters, x: Tensor) -> Tensor:
    """Gated linear unit."""
    return gated(x, layer.function)


def slice_(ops: Operations, layer: Slice, parameters: Parameters, x: Tensor) -> Tensor:
    """Some of the features."""
    return x[..., layer.start : layer.stop]


def tokens(ops: Operations, layer: Any, parameters: Parameters, x_BCHW: Tensor) -> Tensor:
    """Class token, one token a pixel, and positions."""
    first_B1C = ops.add(x_BCHW.new_zeros(len(x_BCHW), 1, layer.hidden), parameters["class_bias"], lambda row: row)
    tokens_BSC = torch.cat([first_B1C, x_BCHW.flatten(2).transpose(1, 2)], 1)
    return ops.add(tokens_BSC, parameters["position_weight"], lambda table: table)


def first_token(ops: Operations, layer: Any, parameters: Parameters, x_BSH: Tensor) -> Tensor:
    """The first row of each sample."""
    return x_BSH[:, 0].clone()


def first_tokens(ops: Operations, layer: FirstTokens, parameters: Parameters, x_BSH: Tensor) -> Tensor:
    """The first rows of each sample."""
    return x_BSH[:, : layer.number].clone()


def activation(ops: Operations, layer: Activation, parameters: Parameters, x: Tensor) -> Tensor:
    """Pointwise non-linearity."""
    functions = {"relu": torch.relu, "gelu": functional.gelu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
    return {**functions, "silu": functional.silu}[layer.function](x)


def embedding(
    ops: Operations, layer: Any, parameters: Parameters, ids_BS: Tensor, *, places: Places | None = None
) -> Tensor:
    """Token rows, plus the rows of the positions."""
    rows_BSH = ops.embedding(ids_BS, parameters["weight"])
    sequence = ids_BS.shape[1]
    if layer.token_types:
        rows_BSH = ops.add(rows_BSH, parameters["type_weight"], lambda table_TH: table_TH[0])
    if layer.positions:
        table_SH = parameters["position_weight"]
        chunks = places.chunks(places.rank) if places else [slice(0, sequence)]
        rows = rows_BSH.chunk(len(chunks), 1) if len(chunks) > 1 else (rows_BSH,)
        added = [ops.add(each, table_SH, itemgetter(chunk)) for each, chunk in zip(rows, chunks, strict=True)]
        rows_BSH = torch.cat(added, 1) if len(added) > 1 else added[0]
    return rows_BSH


def add(ops: Operations, layer: Any, parameters: Parameters, left: Tensor, right: Tensor) -> Tensor:
    """Residual sum."""
    return left + right


def bias(ops: Operations, layer: Bias, parameters: Parameters, x: Tensor) -> Tensor:
    """One value a channel."""
    shape = (-1,) if layer.channel_axis == -1 else (-1, 1, 1)
    return ops.add(x, parameters[layer.parameter], lambda value: value.view(shape))


def pool(ops: Operations, layer: Pool, parameters: Parameters, x: Tensor) -> Tensor:
    """Square windows."""
    function = functional.max_pool2d if layer.function == "max" else functional.avg_pool2d
    return function(x, layer.kernel, layer.step, layer.padding)


def flatten(ops: Operations, layer: Any, parameters: Parameters, x: Tensor) -> Tensor:
    """One axis a sample."""
    return x.flatten(1)


def mse(ops: Operations, layer: Any, parameters: Parameters, prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, in fp32 whatever the dtype."""
    return functional.mse_loss(prediction.float(), target)


def cross_entropy(
    ops: Operations, layer: CrossEntropy, parameters: Parameters, prediction: Tensor, target: Tensor
) -> Tensor:
    """Cross entropy over the last axis, mean over all positions, in fp32 whatever the dtype."""
    return functional.cross_entropy(prediction.flatten(0, -2).float(), target.flatten())


PLACED = ("qkv", "embedding", "latent_attention", "block_attention")
"""Kinds that ask which places of the sequence a rank has, where it has only some."""

FORWARD: dict[str, Forward] = {
    **experts.FORWARD,
    **attention.FORWARD,
    **dropout.FORWARD,
    **vocabulary.FORWARD,
    "batch_norm": batch_norm,
    "glu": glu,
    "slice": slice_,
    "tokens": tokens,
    "first_token": first_token,
    "first_tokens": first_tokens,
    "linear": linear,
    "conv2d": conv2d,
    "qkv": qkv,
    "norm": norm,
    "activation": activation,
    "embedding": embedding,
    "add": add,
    "bias": bias,
    "pool": pool,
    "flatten": flatten,
    "mse": mse,
    "cross_entropy": cross_entropy,
}
