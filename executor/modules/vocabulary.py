"""A language model's ends where ranks share the vocabulary; every function is told which rank it runs on.

Shape suffixes: B batch, S sequence, H hidden, V a rank's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from executor.modules.operations import Operations
from simulator.model.layers.vocabulary import Positions, VocabularyEmbedding, VocabularyStatistics

Parameters = Mapping[str, Tensor]


def embedding(
    ops: Operations, layer: VocabularyEmbedding, parameters: Parameters, ids_BS: Tensor, rank: int = 0
) -> Tensor:
    """Rows of the tokens that this rank has, zeros for the others."""
    own_BS, inside_BS = _own(ids_BS, layer.rows, rank)
    return ops.embedding(own_BS, parameters["weight"]).masked_fill(~inside_BS.unsqueeze(-1), 0)


def positions(ops: Operations, layer: Positions, parameters: Parameters, x_BSH: Tensor, rank: int = 0) -> Tensor:
    """The rows of the positions that this rank has."""
    sequence = x_BSH.shape[1]
    first = rank * sequence if layer.num_parts > 1 else 0
    if layer.token_types:
        x_BSH = ops.add(x_BSH, parameters["type_weight"], lambda table_TH: table_TH[0])
    if layer.positions:
        x_BSH = ops.add(x_BSH, parameters["position_weight"], lambda table_SH: table_SH[first : first + sequence])
    return x_BSH


def largest(ops: Operations, layer: Any, parameters: Parameters, logits_BSV: Tensor, rank: int = 0) -> Tensor:
    """Largest logit of a position; minus infinity where this rank has nothing but padding."""
    real_BSV = _real(logits_BSV.detach(), layer.vocab_size, rank)
    if not real_BSV.shape[-1]:
        return torch.full_like(logits_BSV[..., 0], float("-inf"), dtype=torch.float32)
    return real_BSV.amax(-1).float()


def total(
    ops: Operations, layer: Any, parameters: Parameters, logits_BSV: Tensor, largest_BS: Tensor, rank: int = 0
) -> Tensor:
    """Sum of a position's exponentials; those of padding are made, for all ranks do the same work, and left out."""
    # A rank that has nothing but padding has no largest; infinite powers, though left out, would spoil its gradients.
    top_BS = largest_BS.detach()
    top_BS = top_BS.masked_fill(top_BS <= torch.finfo(torch.float32).min, 0.0)
    powers_BSV = (logits_BSV.float() - top_BS.unsqueeze(-1)).exp()
    return _real(powers_BSV, layer.vocab_size, rank).sum(-1)


def target(
    ops: Operations,
    layer: Any,
    parameters: Parameters,
    logits_BSV: Tensor,
    largest_BS: Tensor,
    target_BS: Tensor,
    rank: int = 0,
) -> Tensor:
    """Logit of the target where this rank has it."""
    own_BS, inside_BS = _own(target_BS, logits_BSV.shape[-1], rank)
    logit_BS = logits_BSV.gather(-1, own_BS.unsqueeze(-1)).squeeze(-1).float()
    return (logit_BS - largest_BS.detach()).masked_fill(~inside_BS, 0)


def statistics(
    ops: Operations,
    layer: VocabularyStatistics,
    parameters: Parameters,
    logits_BSV: Tensor,
    target_BS: Tensor,
    rank: int = 0,
) -> Tensor:
    """Largest logit, sum of exponentials and the target's logit of this rank, in its row; zeros in the others'."""
    largest_BS = largest(ops, layer, parameters, logits_BSV, rank)
    # A rank with nothing but padding adds nothing; its largest must be a number all the same.
    largest_BS = largest_BS.clamp(min=torch.finfo(torch.float32).min)
    total_BS = total(ops, layer, parameters, logits_BSV, largest_BS, rank)
    own_BS, inside_BS = _own(target_BS, logits_BSV.shape[-1], rank)
    # Not gather, whose backward would keep the logits.
    rows = torch.arange(own_BS.numel(), device=own_BS.device)
    logit_BS = logits_BSV.flatten(0, -2)[rows, own_BS.flatten()].view_as(own_BS).float()
    own_BS3 = torch.stack([largest_BS, total_BS, logit_BS.masked_fill(~inside_BS, 0)], -1)
    return functional.pad(own_BS3.unsqueeze(-2), (0, 0, rank, layer.num_ranks - 1 - rank))


def statistics_loss(ops: Operations, layer: Any, parameters: Parameters, joined_BSR3: Tensor) -> Tensor:
    """Cross entropy from the numbers of all ranks, mean over all positions."""
    largest_BSR, total_BSR, target_BSR = joined_BSR3.unbind(-1)
    top_BS = largest_BSR.amax(-1)
    sum_BS = (total_BSR * (largest_BSR - top_BS.unsqueeze(-1)).exp()).sum(-1)
    return (top_BS + sum_BS.log() - target_BSR.sum(-1)).mean()


def loss(ops: Operations, layer: Any, parameters: Parameters, total_BS: Tensor, target_BS: Tensor) -> Tensor:
    """Cross entropy, mean over all positions."""
    return (total_BS.log() - target_BS).mean()


def _own(ids_BS: Tensor, rows: int, rank: int) -> tuple[Tensor, Tensor]:
    """Return ids as rows of this rank, the first row for those of others, and whether they are its own."""
    own_BS = ids_BS - rank * rows
    inside_BS = (own_BS >= 0) & (own_BS < rows)
    return own_BS.where(inside_BS, 0), inside_BS


def _real(logits_BSV: Tensor, vocab_size: int, rank: int) -> Tensor:
    """Return the logits that are not padding."""
    return logits_BSV[..., : max(0, vocab_size - rank * logits_BSV.shape[-1])]


RANKED: dict[str, Callable[..., Tensor]] = {
    "vocabulary_embedding": embedding,
    "positions": positions,
    "vocabulary_max": largest,
    "vocabulary_sum": total,
    "vocabulary_target": target,
    "vocabulary_statistics": statistics,
}
"""Functions that are told which rank of the group runs them."""

FORWARD: dict[str, Callable[..., Tensor]] = {**RANKED, "vocabulary_loss": loss, "statistics_loss": statistics_loss}
