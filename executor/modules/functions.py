"""Forward of each layer kind on a batch; autograd does the rest.

Shape suffixes: B batch, S sequence, H hidden, A heads, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from executor.modules.operations import Operations
from simulator.model.layers import Activation, Attention, Bias, Conv2d, CrossEntropy, Pool

Parameters = Mapping[str, Tensor]
Forward = Callable[..., Tensor]


def linear(ops: Operations, layer: Any, parameters: Parameters, x: Tensor) -> Tensor:
    """Dense layer."""
    return ops.linear(x, parameters["weight"], parameters.get("bias"))


def conv2d(ops: Operations, layer: Conv2d, parameters: Parameters, x: Tensor) -> Tensor:
    """Convolution; torch chooses between unfolding and direct algorithms."""
    return ops.conv2d(x, parameters["weight"], parameters.get("bias"), layer.stride, layer.padding)


def attention(ops: Operations, layer: Attention, parameters: Parameters, x_BSH: Tensor) -> Tensor:
    """Self-attention with its projections over the local heads, scores materialised."""
    batch, sequence, _ = x_BSH.shape
    qkv_bias = parameters.get("qkv_bias")
    qkv = ops.linear(x_BSH, parameters["qkv_weight"], qkv_bias)
    q_BASD, k_BASD, v_BASD = qkv.view(batch, sequence, 3, layer.num_heads, layer.head_dim).permute(2, 0, 3, 1, 4)
    # Products copy them unless the batch is 1; then views would keep all of qkv alive until backward.
    k_BASD, v_BASD = k_BASD.contiguous(), v_BASD.contiguous()
    scores_BASS = (q_BASD / math.sqrt(layer.head_dim)) @ k_BASD.transpose(-1, -2)
    if layer.causal:
        future = torch.ones(sequence, sequence, dtype=torch.bool, device=x_BSH.device).triu(1)
        scores_BASS = scores_BASS.masked_fill(future, float("-inf"))
    context_BASD = scores_BASS.softmax(-1) @ v_BASD
    context_BSH = context_BASD.transpose(1, 2).reshape(batch, sequence, layer.width)
    out_bias = parameters.get("out_bias")
    return ops.linear(context_BSH, parameters["out_weight"], out_bias)


def norm(ops: Operations, layer: Any, parameters: Parameters, x: Tensor) -> Tensor:
    """Layer normalisation."""
    return ops.norm(x, parameters["weight"], parameters["bias"])


def activation(ops: Operations, layer: Activation, parameters: Parameters, x: Tensor) -> Tensor:
    """Pointwise non-linearity."""
    functions = {"relu": torch.relu, "gelu": functional.gelu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
    return functions[layer.function](x)


def embedding(ops: Operations, layer: Any, parameters: Parameters, ids_BS: Tensor) -> Tensor:
    """Token rows, plus the rows of the positions."""
    rows_BSH = ops.embedding(ids_BS, parameters["weight"])
    if not layer.positions:
        return rows_BSH
    sequence = ids_BS.shape[1]
    return ops.add(rows_BSH, parameters["position_weight"], lambda table_SH: table_SH[:sequence])


def add(ops: Operations, layer: Any, parameters: Parameters, left: Tensor, right: Tensor) -> Tensor:
    """Residual sum."""
    return left + right


def bias(ops: Operations, layer: Bias, parameters: Parameters, x: Tensor) -> Tensor:
    """One value a channel."""
    shape = (-1,) if layer.channel_axis == -1 else (-1, 1, 1)
    return ops.add(x, parameters[layer.parameter], lambda value: value.view(shape))


def pool(ops: Operations, layer: Pool, parameters: Parameters, x: Tensor) -> Tensor:
    """Square windows that do not overlap."""
    function = functional.max_pool2d if layer.function == "max" else functional.avg_pool2d
    return function(x, layer.kernel)


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


FORWARD: dict[str, Forward] = {
    "linear": linear,
    "conv2d": conv2d,
    "attention": attention,
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
