"""YAML keys of the transformer families; names as in Hugging Face configurations where those have one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from simulator.errors import Problems
from simulator.inputs.fields import Name, NonNegativeInt, PositiveInt, StrictModel
from simulator.model.layers import Norm
from simulator.model.layers.dropout import DropRate
from simulator.model.transformer_sizes import Experts, Heads, Latent, Transformer


class TransformerSchema(StrictModel):
    """What all of them have."""

    name: Name
    description: str = ""
    num_hidden_layers: PositiveInt
    hidden_size: PositiveInt
    num_attention_heads: PositiveInt
    vocab_size: PositiveInt
    sequence_length: PositiveInt
    tie_embeddings: bool = False
    flash: bool = False

    def head_size(self) -> int:
        """Return the features of one head."""
        return self.hidden_size // self.num_attention_heads

    def transformer(self) -> Transformer:
        """Return everything that its costs depend on."""
        raise NotImplementedError

    def check(self, problems: Problems) -> None:
        """Report sizes that do not divide."""
        heads, remainder = self.num_attention_heads, self.hidden_size % self.num_attention_heads
        if remainder:
            below = self.hidden_size - remainder
            near = " or ".join(str(size) for size in (below, below + heads) if size)
            problems.add(
                "model.num_attention_heads",
                f"{heads} does not divide hidden_size {self.hidden_size} (remainder {remainder})",
                f"nearest hidden_size: {near}",
            )


class GptSchema(TransformerSchema):
    """A GPT: LayerNorm, an MLP without a gate, learned positions unless others are asked for."""

    family: Literal["gpt"]
    intermediate_size: PositiveInt | None = None
    positions: Literal["learned", "rotary", "none"] = "learned"
    max_positions: PositiveInt | None = None
    activation: Literal["gelu", "relu"] = "gelu"
    bias: bool = True
    parallel_residual: bool = False
    dropout: DropRate = 0.0

    def check(self, problems: Problems) -> None:
        """Report a sequence that is longer than the table of positions too."""
        super().check(problems)
        _check_positions(self.sequence_length, self.max_positions, problems)

    def transformer(self) -> Transformer:
        """Return the sizes."""
        heads = Heads(
            num_heads=self.num_attention_heads,
            num_kv_heads=self.num_attention_heads,
            head_dim=self.head_size(),
            qkv_bias=self.bias,
            out_bias=self.bias,
            rope=self.positions == "rotary",
        )
        return Transformer(
            num_layers=self.num_hidden_layers,
            hidden=self.hidden_size,
            inner=self.intermediate_size or 4 * self.hidden_size,
            vocab_size=self.vocab_size,
            sequence=self.sequence_length,
            attention=heads,
            function=self.activation,
            mlp_bias=self.bias,
            norm=Norm(features=self.hidden_size, bias=self.bias),
            parallel=self.parallel_residual,
            positions=(self.max_positions or self.sequence_length) if self.positions == "learned" else 0,
            tied=self.tie_embeddings,
            flash=self.flash,
            dropout=self.dropout,
        )


class BertSchema(TransformerSchema):
    """A BERT with its masked-language head over some or all positions: norms behind the sums, no causal mask."""

    family: Literal["bert"]
    intermediate_size: PositiveInt | None = None
    max_positions: PositiveInt | None = None
    token_types: NonNegativeInt = 2
    tie_embeddings: bool = True
    predictions_per_sequence: PositiveInt | None = None
    dropout: DropRate = 0.0

    def check(self, problems: Problems) -> None:
        """Report a sequence that is longer than the table of positions, or has too few to predict, too."""
        super().check(problems)
        _check_positions(self.sequence_length, self.max_positions, problems)
        if (self.predictions_per_sequence or 0) > self.sequence_length:
            message = f"{self.predictions_per_sequence} are more than sequence_length {self.sequence_length}"
            problems.add("model.predictions_per_sequence", message, f"use {self.sequence_length} or fewer")

    def transformer(self) -> Transformer:
        """Return the sizes."""
        heads = self.num_attention_heads
        return Transformer(
            num_layers=self.num_hidden_layers,
            hidden=self.hidden_size,
            inner=self.intermediate_size or 4 * self.hidden_size,
            vocab_size=self.vocab_size,
            sequence=self.sequence_length,
            attention=Heads(num_heads=heads, num_kv_heads=heads, head_dim=self.head_size()),
            norm=Norm(features=self.hidden_size),
            norms="after",
            positions=self.max_positions or self.sequence_length,
            token_types=self.token_types,
            embedding_norm=True,
            tied=self.tie_embeddings,
            causal=False,
            flash=self.flash,
            predictions=self.predictions_per_sequence or 0,
            dropout=self.dropout,
        )


class LlamaSchema(TransformerSchema):
    """A Llama: RMSNorm, rotary positions, a gated MLP, fewer heads of keys and values; no biases unless asked for."""

    family: Literal["llama"]
    intermediate_size: PositiveInt
    num_key_value_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    activation: Literal["silu", "gelu"] = "silu"
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    post_norms: bool = False
    sliding_window: Annotated[PositiveInt | None, Field(description="keys that a query sees; all if absent")] = None
    full_attention_every: Annotated[
        PositiveInt | None, Field(description="of the layers with a sliding window, each how manieth has none")
    ] = None

    def head_size(self) -> int:
        """Return the features of one head."""
        return self.head_dim or super().head_size()

    def check(self, problems: Problems) -> None:
        """Report heads that do not divide."""
        if self.head_dim is None:
            super().check(problems)
        heads, shared = self.num_attention_heads, self.num_key_value_heads or self.num_attention_heads
        if heads % shared:
            near = [d for d in range(1, heads + 1) if heads % d == 0]
            below, above = max(d for d in near if d <= shared), min((d for d in near if d > shared), default=heads)
            problems.add(
                "model.num_key_value_heads",
                f"{shared} does not divide num_attention_heads {heads} (remainder {heads % shared})",
                f"legal neighbour: {below} or {above}",
            )

    def attention(self) -> Heads | Latent:
        """Return the attention of every layer."""
        return Heads(
            num_heads=self.num_attention_heads,
            num_kv_heads=self.num_key_value_heads or self.num_attention_heads,
            head_dim=self.head_size(),
            qkv_bias=self.qkv_bias,
            out_bias=self.out_bias,
            qk_norm=self.qk_norm,
            rope=True,
            window=self.sliding_window,
            unlimited_every=self.full_attention_every,
        )

    def experts(self) -> Experts | None:
        """Return the mixture that stands in place of the MLP."""
        return None

    def transformer(self) -> Transformer:
        """Return the sizes."""
        return Transformer(
            num_layers=self.num_hidden_layers,
            hidden=self.hidden_size,
            inner=self.intermediate_size,
            vocab_size=self.vocab_size,
            sequence=self.sequence_length,
            attention=self.attention(),
            experts=self.experts(),
            function=self.activation,
            gated=True,
            mlp_bias=False,
            norm=Norm(features=self.hidden_size, function="rms"),
            norms="both" if self.post_norms else "before",
            tied=self.tie_embeddings,
            flash=self.flash,
        )


class LatentSchema(StrictModel):
    """Multi-head latent attention (DeepSeek-V2)."""

    kv_lora_rank: PositiveInt
    q_lora_rank: PositiveInt | None = None
    qk_nope_head_dim: PositiveInt
    qk_rope_head_dim: PositiveInt
    v_head_dim: PositiveInt


def _at_least_one(given: object) -> object:
    if isinstance(given, int | float) and not isinstance(given, bool) and given < 1:
        raise ValueError(f"{given} is less than 1; 1 means that all ranks have equally many tokens")
    return given


class MoeSchema(LlamaSchema):
    """A Llama whose MLPs are mixtures of experts; with ``latent_attention`` a DeepSeek."""

    family: Literal["moe"]  # type: ignore[assignment]
    num_experts: PositiveInt
    num_experts_per_token: PositiveInt
    moe_intermediate_size: PositiveInt | None = None
    shared_intermediate_size: NonNegativeInt = 0
    first_dense_layers: NonNegativeInt = 0
    moe_layer_freq: PositiveInt = 1
    scoring: Literal["softmax", "sigmoid"] = "softmax"
    load_imbalance: Annotated[float, BeforeValidator(_at_least_one), Field(ge=1)] = 1.0
    latent_attention: LatentSchema | None = None

    def check(self, problems: Problems) -> None:
        """Report a choice of more experts than there are too."""
        if self.latent_attention is None:
            super().check(problems)
        if self.num_experts_per_token > self.num_experts:
            message = f"{self.num_experts_per_token} are more than num_experts {self.num_experts}"
            problems.add("model.num_experts_per_token", message, f"use {self.num_experts} or fewer")

    def attention(self) -> Heads | Latent:
        """Return the attention of every layer."""
        latent = self.latent_attention
        if latent is None:
            return super().attention()
        return Latent(
            num_heads=self.num_attention_heads,
            nope_dim=latent.qk_nope_head_dim,
            rope_dim=latent.qk_rope_head_dim,
            value_dim=latent.v_head_dim,
            q_rank=latent.q_lora_rank or 0,
            kv_rank=latent.kv_lora_rank,
        )

    def experts(self) -> Experts:
        """Return the mixture."""
        return Experts(
            num_experts=self.num_experts,
            top_k=self.num_experts_per_token,
            inner=self.moe_intermediate_size or self.intermediate_size,
            shared_inner=self.shared_intermediate_size,
            first_dense=self.first_dense_layers,
            every=self.moe_layer_freq,
            scoring=self.scoring,
            load_imbalance=self.load_imbalance,
        )


def _check_positions(sequence: int, positions: int | None, problems: Problems) -> None:
    if positions is not None and sequence > positions:
        message = f"{sequence} is more than max_positions {positions}"
        problems.add("model.sequence_length", message, f"use {positions} or fewer, or give more positions")
