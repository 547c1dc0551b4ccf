"""Everything that the costs of a transformer depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simulator.model.layers import Norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Attention with heads of queries, and as many or fewer of keys and values; the words of ``Qkv``.

    Parameters
    ----------
    window, unlimited_every
        Keys that a query sees, None for all before it; of the layers, each how manieth is not limited all the same.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    qkv_bias: bool = True
    out_bias: bool = True
    qk_norm: bool = False
    rope: bool = False
    window: int | None = None
    unlimited_every: int | None = None

    def window_of(self, index: int) -> int | None:
        """Return the window of a layer."""
        return None if self.unlimited_every and (index + 1) % self.unlimited_every == 0 else self.window


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2): queries and keys unfolded from narrow latents.

    Parameters
    ----------
    num_heads, nope_dim, rope_dim, value_dim
        The words of ``LatentAttention``.
    q_rank, kv_rank
        Width of the latents; ``q_rank`` 0: queries come straight from the hidden state.
    """

    num_heads: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    q_rank: int
    kv_rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts in place of the MLP.

    Parameters
    ----------
    num_experts, top_k, inner
        Experts of a layer, those that a token visits, and the width inside one.
    shared_inner
        Width of the experts that all tokens visit, taken together; 0 without.
    first_dense, every
        Layers at the beginning that keep their MLP, and of those behind, each how manieth has experts.
    scoring, load_imbalance
        The words of ``Router`` and ``GroupedLinear``.
    """

    num_experts: int
    top_k: int
    inner: int
    shared_inner: int = 0
    first_dense: int = 0
    every: int = 1
    scoring: Literal["softmax", "sigmoid"] = "softmax"
    load_imbalance: float = 1.0

    def has_layer(self, index: int) -> bool:
        """Return whether a layer has experts."""
        return index >= self.first_dense and (index - self.first_dense + 1) % self.every == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """Everything that the costs of a transformer depend on.

    Parameters
    ----------
    num_layers, hidden, inner, vocab_size, sequence
        Sizes.
    attention
        Of either kind.
    experts
        Where the MLP is a mixture.
    function, gated, mlp_bias
        Non-linearity of the MLP, whether it opens a gate, and biases of its products.
    norm
        The layer of every norm.
    norms
        Where they stand: ``before`` attention and MLP, ``after`` the sums (BERT), or before and behind either
        (``both``, Gemma 2).
    parallel
        Attention and MLP read the same stream and are added together (GPT-NeoX).
    positions, token_types, embedding_norm
        Of the embedding.
    tied
        The output projection uses the embedding's weight.
    causal, flash
        Of attention.
    predictions
        Positions of a sequence of which the head makes logits; 0: all.
    dropout
        Share that is dropped of the embedding, of attention's weights, and of what attention and MLP add to the stream.
    """

    num_layers: int
    hidden: int
    inner: int
    vocab_size: int
    sequence: int
    attention: Heads | Latent
    experts: Experts | None = None
    function: Literal["relu", "gelu", "silu"] = "gelu"
    gated: bool = False
    mlp_bias: bool = True
    norm: Norm
    norms: Literal["before", "after", "both"] = "before"
    parallel: bool = False
    positions: int = 0
    token_types: int = 0
    embedding_norm: bool = False
    tied: bool = False
    causal: bool = True
    flash: bool = False
    predictions: int = 0
    dropout: float = 0.0
