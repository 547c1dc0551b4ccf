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

from executor.modules import experts, vocabulary
from executor.modules.fused import gated, rotate
from executor.modules.operations import Operations
from simulator.model.layers import (
    Activation,
    Attention,
    Bias,
    Conv2d,
    CrossEntropy,
    Glu,
    LatentAttention,
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


def qkv(ops: Operations, layer: Qkv, parameters: Parameters, x_BSH: Tensor) -> Tensor:
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
        made_BSH = rotate(made_BSH, layer.num_heads + layer.num_kv_heads, layer.head_dim)
    return made_BSH


def attention(ops: Operations, layer: Attention, parameters: Parameters, qkv_BSH: Tensor) -> Tensor:
    """Scores, softmax and context, materialised or by torch's fused kernel."""
    batch, sequence, _ = qkv_BSH.shape
    shared = layer.num_heads // layer.num_kv_heads
    heads_BASD = qkv_BSH.view(batch, sequence, -1, layer.head_dim).transpose(1, 2)
    q_BASD, k_BASD, v_BASD = heads_BASD.split([layer.num_heads, layer.num_kv_heads, layer.num_kv_heads], 1)
    if layer.flash:
        context_BASD = functional.scaled_dot_product_attention(
            q_BASD, k_BASD, v_BASD, is_causal=layer.causal, enable_gqa=shared > 1
        )
    else:
        context_BASD = _materialised(q_BASD, _repeated(k_BASD, shared), _repeated(v_BASD, shared), layer.causal)
    return context_BASD.transpose(1, 2).reshape(batch, sequence, layer.width)


def _repeated(heads_BASD: Tensor, times: int) -> Tensor:
    # Products copy them unless the batch is 1; then views would keep all of qkv alive until backward.
    return heads_BASD.repeat_interleave(times, 1) if times > 1 else heads_BASD.contiguous()


def _materialised(q_BASD: Tensor, k_BASD: Tensor, v_BASD: Tensor, causal: bool) -> Tensor:
    sequence = q_BASD.shape[2]
    scores_BASS = (q_BASD / math.sqrt(q_BASD.shape[-1])) @ k_BASD.transpose(-1, -2)
    if causal:
        future = torch.ones(sequence, sequence, dtype=torch.bool, device=q_BASD.device).triu(1)
        scores_BASS = scores_BASS.masked_fill(future, float("-inf"))
    return scores_BASS.softmax(-1) @ v_BASD


def latent_attention(
    ops: Operations, layer: LatentAttention, parameters: Parameters, q_BSH: Tensor, kv_BSH: Tensor, turned_BSR: Tensor
) -> Tensor:
    """Attention whose keys are in part the same for all heads."""
    batch, sequence, _ = q_BSH.shape
    nope, rope = layer.nope_dim, layer.rope_dim
    q_BSAD = q_BSH.unflatten(-1, (layer.num_heads, -1))
    q_BSAD = torch.cat([q_BSAD[..., :nope], rotate(q_BSAD[..., nope:], 1, rope)], -1)
    kv_BSAD = kv_BSH.unflatten(-1, (layer.num_heads, -1))
    shared_BSAD = rotate(turned_BSR, 1, rope).unsqueeze(2).expand(-1, -1, layer.num_heads, -1)
    k_BSAD = torch.cat([kv_BSAD[..., :nope], shared_BSAD], -1)
    q_BASD, k_BASD, v_BASD = (x.transpose(1, 2) for x in (q_BSAD, k_BSAD, kv_BSAD[..., nope:]))
    if layer.flash:
        context_BASD = functional.scaled_dot_product_attention(q_BASD, k_BASD, v_BASD, is_causal=layer.causal)
    else:
        context_BASD = _materialised(q_BASD, k_BASD.contiguous(), v_BASD.contiguous(), layer.causal)
    return context_BASD.transpose(1, 2).reshape(batch, sequence, -1)


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


def activation(ops: Operations, layer: Activation, parameters: Parameters, x: Tensor) -> Tensor:
    """Pointwise non-linearity."""
    functions = {"relu": torch.relu, "gelu": functional.gelu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
    return {**functions, "silu": functional.silu}[layer.function](x)


def embedding(ops: Operations, layer: Any, parameters: Parameters, ids_BS: Tensor) -> Tensor:
    """Token rows, plus the rows of the positions."""
    rows_BSH = ops.embedding(ids_BS, parameters["weight"])
    sequence = ids_BS.shape[1]
    if layer.token_types:
        rows_BSH = ops.add(rows_BSH, parameters["type_weight"], lambda table_TH: table_TH[0])
    if layer.positions:
        rows_BSH = ops.add(rows_BSH, parameters["position_weight"], lambda table_SH: table_SH[:sequence])
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


FORWARD: dict[str, Forward] = {
    **experts.FORWARD,
    **vocabulary.FORWARD,
    "latent_attention": latent_attention,
    "batch_norm": batch_norm,
    "glu": glu,
    "slice": slice_,
    "tokens": tokens,
    "first_token": first_token,
    "linear": linear,
    "conv2d": conv2d,
    "qkv": qkv,
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
