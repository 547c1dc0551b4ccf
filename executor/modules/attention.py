"""The cores of attention: of whole sequences, and of one rank's queries where ranks share a sequence.

Shape suffixes: B batch, S sequence, H hidden, A heads, D head size, N blocks, X what is behind each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from executor.modules.dropout import Draws, Drop, Samples
from executor.modules.fused import rotate
from executor.modules.operations import Operations
from executor.modules.tables import table
from executor.places import Places
from simulator.model.layers import Attention, BlockAttention, LatentAttention, MergeBlocks

Parameters = Mapping[str, Tensor]

UNSEEN = -1e30
"""Score of a key that a query does not see: its weight is zero, and a query that sees none of a block is no NaN."""


def attention(
    ops: Operations,
    layer: Attention,
    parameters: Parameters,
    qkv_BSH: Tensor,
    samples: Samples | None = None,
    *,
    draws: Draws | None = None,
) -> Tensor:
    """Scores, softmax and context, materialised or by torch's fused kernel."""
    batch, sequence, _ = qkv_BSH.shape
    shared = layer.num_heads // layer.num_kv_heads
    heads_BASD = qkv_BSH.view(batch, sequence, -1, layer.head_dim).transpose(1, 2)
    q_BASD, k_BASD, v_BASD = heads_BASD.split([layer.num_heads, layer.num_kv_heads, layer.num_kv_heads], 1)

    def materialised(q_BASD: Tensor, k_BASD: Tensor, v_BASD: Tensor) -> Tensor:
        mask = _unseen(sequence, layer.window, q_BASD.device) if layer.causal else None
        drop = _dropping(layer, samples, draws, torch.arange(sequence), torch.arange(sequence))
        return _materialised(q_BASD, _repeated(k_BASD, shared), _repeated(v_BASD, shared), mask, drop)

    if not layer.flash:
        context_BASD = materialised(q_BASD, k_BASD, v_BASD)
    elif draws:
        # The fused kernel draws numbers of its own; like it, this keeps nothing of the scores.
        context_BASD = checkpoint(materialised, q_BASD, k_BASD, v_BASD, use_reentrant=False, preserve_rng_state=False)
    else:
        seen = ~_unseen(sequence, layer.window, q_BASD.device) if layer.causal and layer.window else None
        context_BASD = functional.scaled_dot_product_attention(
            q_BASD, k_BASD, v_BASD, seen, is_causal=layer.causal and seen is None, enable_gqa=shared > 1
        )
    return context_BASD.transpose(1, 2).reshape(batch, sequence, layer.width)


def block_attention(
    ops: Operations,
    layer: BlockAttention,
    parameters: Parameters,
    q_BSH: Tensor,
    kv_BSH: Tensor,
    samples: Samples | None = None,
    *,
    places: Places | None = None,
    draws: Draws | None = None,
) -> Tensor:
    """Attention of a rank's own queries over the keys and values of all ranks, or over one block of a ring.

    What comes of a block has the logarithms of the sums of exponentials behind it, each as a sum of two numbers: bf16
    keeps too few digits in one.
    """
    assert places
    shared = layer.num_heads // layer.num_kv_heads
    q_BASD, k_BASD, v_BASD = (
        x.unflatten(-1, (-1, layer.head_dim)).transpose(1, 2) for x in (q_BSH, *kv_BSH.chunk(2, -1))
    )
    mask = _hidden(places, layer.distance, q_BSH.device) if layer.causal else None
    drop = _dropping(layer, samples, draws, places.own, _keys(places, layer.distance))
    if layer.flash and layer.distance is None and not drop:
        added = _added(places, q_BSH.dtype, q_BSH.device) if layer.causal else None
        context_BASD = functional.scaled_dot_product_attention(q_BASD, k_BASD, v_BASD, added, enable_gqa=shared > 1)
        return _joined(context_BASD)
    k_BASD, v_BASD = _repeated(k_BASD, shared), _repeated(v_BASD, shared)
    if layer.distance is None:
        return _joined(_materialised(q_BASD, k_BASD, v_BASD, mask, drop))
    scores_BASS = ((q_BASD / math.sqrt(layer.head_dim)) @ k_BASD.transpose(-1, -2)).float()
    if mask is not None:
        scores_BASS = scores_BASS.masked_fill(mask, UNSEEN)
    sums_BSA = scores_BASS.logsumexp(-1).transpose(1, 2)
    weights_BASS = scores_BASS.softmax(-1).to(v_BASD.dtype)
    context_BASD = (drop(weights_BASS) if drop else weights_BASS) @ v_BASD
    coarse_BSA = sums_BSA.detach().to(q_BSH.dtype)
    return torch.cat([_joined(context_BASD), coarse_BSA, (sums_BSA - coarse_BSA).to(q_BSH.dtype)], -1)


def merge_blocks(ops: Operations, layer: MergeBlocks, parameters: Parameters, *parts_BSX: Tensor) -> Tensor:
    """The outputs of all blocks, each head of each row weighed by its sum of exponentials."""
    heads = layer.num_heads
    split = [part.split([part.shape[-1] - 2 * heads, heads, heads], -1) for part in parts_BSX]
    sums_NBSA = torch.stack([coarse.float() + fine.float() for _, coarse, fine in split])
    outputs_NBSAD = torch.stack([output.unflatten(-1, (heads, -1)) for output, _, _ in split])
    weights_NBSA = sums_NBSA.softmax(0).to(outputs_NBSAD.dtype)
    return (weights_NBSA.unsqueeze(-1) * outputs_NBSAD).sum(0).flatten(-2)


def _joined(context_BASD: Tensor) -> Tensor:
    return context_BASD.transpose(1, 2).flatten(-2)


def _hidden(places: Places, distance: int | None, device: torch.device) -> Tensor:
    """Return which keys, of all ranks or of one so far behind, lie in the future of each of a rank's own queries."""
    return _keys(places, distance).to(device) > places.own.to(device).unsqueeze(-1)


def _keys(places: Places, distance: int | None) -> Tensor:
    """Return the places of all ranks' keys, or of those of one so far behind."""
    return places.gathered if distance is None else places.of((places.rank - distance) % places.num_ranks)


def _dropping(
    layer: Attention, samples: Samples | None, draws: Draws | None, queries: Tensor, keys: Tensor
) -> Drop | None:
    """Return what drops some of the weights of the values, None where nothing is dropped."""
    if not draws or not samples:
        return None
    heads = draws.heads(layer.num_heads, exchanged=not isinstance(layer, BlockAttention))
    return draws.drop(layer.dropout, samples, heads, queries, keys)


@table
def _added(places: Places, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what a fused kernel adds to the scores of all ranks' keys: of a mask it would keep a copy like this."""
    hidden = _hidden(places, None, device)
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill(hidden, float("-inf"))


def _future(sequence: int, device: torch.device) -> Tensor:
    return torch.ones(sequence, sequence, dtype=torch.bool, device=device).triu(1)


def _unseen(sequence: int, window: int | None, device: torch.device) -> Tensor:
    """Return which keys lie in the future of each query, or before its window."""
    future = _future(sequence, device)
    return future if window is None else future | torch.ones_like(future).tril(-window)


def _repeated(heads_BASD: Tensor, times: int) -> Tensor:
    # Products copy them unless the batch is 1; then views would keep all of qkv alive until backward.
    return heads_BASD.repeat_interleave(times, 1) if times > 1 else heads_BASD.contiguous()


def _materialised(
    q_BASD: Tensor, k_BASD: Tensor, v_BASD: Tensor, mask_SS: Tensor | None, drop: Drop | None = None
) -> Tensor:
    scores_BASS = (q_BASD / math.sqrt(q_BASD.shape[-1])) @ k_BASD.transpose(-1, -2)
    if mask_SS is not None:
        scores_BASS = scores_BASS.masked_fill(mask_SS, float("-inf"))
    weights_BASS = scores_BASS.softmax(-1)
    return (drop(weights_BASS) if drop else weights_BASS) @ v_BASD


def latent_attention(
    ops: Operations,
    layer: LatentAttention,
    parameters: Parameters,
    q_BSH: Tensor,
    kv_BSH: Tensor,
    turned_BSR: Tensor,
    *,
    places: Places | None = None,
) -> Tensor:
    """Attention whose keys are in part the same for all heads; of a rank's own queries, where keys are gathered."""
    batch, sequence, _ = q_BSH.shape
    gathered = places if places and kv_BSH.shape[1] > sequence else None
    own, others = (gathered.own, gathered.gathered) if gathered else (None, None)
    nope, rope = layer.nope_dim, layer.rope_dim
    q_BSAD = q_BSH.unflatten(-1, (layer.num_heads, -1))
    q_BSAD = torch.cat([q_BSAD[..., :nope], rotate(q_BSAD[..., nope:], 1, rope, own)], -1)
    kv_BSAD = kv_BSH.unflatten(-1, (layer.num_heads, -1))
    shared_BSAD = rotate(turned_BSR, 1, rope, others).unsqueeze(2).expand(-1, -1, layer.num_heads, -1)
    k_BSAD = torch.cat([kv_BSAD[..., :nope], shared_BSAD], -1)
    q_BASD, k_BASD, v_BASD = (x.transpose(1, 2) for x in (q_BSAD, k_BSAD, kv_BSAD[..., nope:]))
    if layer.flash and not gathered:
        context_BASD = functional.scaled_dot_product_attention(q_BASD, k_BASD, v_BASD, is_causal=layer.causal)
    else:
        device = q_BSH.device
        mask = (_hidden(gathered, None, device) if gathered else _future(sequence, device)) if layer.causal else None
        context_BASD = _materialised(q_BASD, k_BASD.contiguous(), v_BASD.contiguous(), mask)
    return context_BASD.transpose(1, 2).reshape(batch, sequence, -1)


FORWARD: dict[str, Callable[..., Tensor]] = {
    "attention": attention,
    "block_attention": block_attention,
    "merge_blocks": merge_blocks,
    "latent_attention": latent_attention,
}
