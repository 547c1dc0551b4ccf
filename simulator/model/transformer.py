"""Transformers: what GPT, Llama, Mixtral, DeepSeek, Gemma, BERT and ViT have in common, and where they differ."""

from __future__ import annotations

from collections.abc import Callable

from simulator.model.chain import Chain
from simulator.model.graph import LayerGraph
from simulator.model.layers import (
    Activation,
    Add,
    Attention,
    Combine,
    CrossEntropy,
    Dispatch,
    Dropout,
    Embedding,
    FirstTokens,
    Glu,
    GroupedLinear,
    LatentAttention,
    Layer,
    Linear,
    Norm,
    Qkv,
    Router,
    Slice,
)
from simulator.model.transformer_sizes import Experts, Latent, Transformer


def build_transformer(name: str, sizes: Transformer) -> LayerGraph:
    """Return the graph of a language model: embedding, blocks, output projection, cross entropy."""
    chain = Chain((sizes.sequence,))
    table = Embedding(
        vocab_size=sizes.vocab_size, hidden=sizes.hidden, positions=sizes.positions, token_types=sizes.token_types
    )
    chain.add("embedding", table)
    if sizes.embedding_norm:
        chain.add("embedding.norm", sizes.norm, block="embedding")
    _dropped(chain, sizes, "embedding.dropout", "embedding")
    for index in range(sizes.num_layers):
        add_block(chain, sizes, index)
    if sizes.predictions:
        chain.add("predicted", FirstTokens(number=sizes.predictions), block="head")
    if sizes.norms == "after":
        chain.add("transform", Linear(in_features=sizes.hidden, out_features=sizes.hidden), block="head")
        chain.add("transform.gelu", Activation(function=sizes.function), block="head")
    chain.add("norm", sizes.norm, block="head")
    tied = "embedding" if sizes.tied else ""
    head = Linear(in_features=sizes.hidden, out_features=sizes.vocab_size, bias=sizes.norms == "after", weight_of=tied)
    chain.add("head", head)
    chain.add("loss", CrossEntropy(), block="head")
    return chain.graph(name, tokens_per_sample=sizes.sequence)


def add_block(chain: Chain, sizes: Transformer, index: int) -> None:
    """Append one transformer block to the chain, reading its last node."""
    block = f"block{index}"
    stream = chain.last
    attended = _around(chain, sizes, block, "1", lambda: _attention(chain, sizes, block, index))
    if sizes.parallel:
        chain.last = stream
        widened = _around(chain, sizes, block, "2", lambda: _mlp(chain, sizes, block, index))
        both = chain.add(f"{block}.add1", Add(), attended, widened, block=block)
        chain.add(f"{block}.add2", Add(), stream, both, block=block)
        return
    stream = _added(chain, sizes, block, "1", stream, attended)
    widened = _around(chain, sizes, block, "2", lambda: _mlp(chain, sizes, block, index))
    _added(chain, sizes, block, "2", stream, widened)


def _around(chain: Chain, sizes: Transformer, block: str, number: str, part: Callable[[], str]) -> str:
    """Append attention or an MLP with the norms before and behind it, and dropout; return the last node."""
    if sizes.norms != "after":
        chain.add(f"{block}.norm{number}", sizes.norm, block=block)
    part()
    if sizes.norms == "both":
        chain.add(f"{block}.post_norm{number}", sizes.norm, block=block)
    return _dropped(chain, sizes, f"{block}.dropout{number}", block)


def _dropped(chain: Chain, sizes: Transformer, name: str, block: str) -> str:
    """Append dropout, if there is any; return the last node."""
    return chain.add(name, Dropout(rate=sizes.dropout), block=block) if sizes.dropout else chain.last


def _added(chain: Chain, sizes: Transformer, block: str, number: str, stream: str, part: str) -> str:
    total = chain.add(f"{block}.add{number}", Add(), stream, part, block=block)
    return chain.add(f"{block}.norm{number}", sizes.norm, block=block) if sizes.norms == "after" else total


def _attention(chain: Chain, sizes: Transformer, block: str, index: int) -> str:
    kind = sizes.attention
    if isinstance(kind, Latent):
        return _latent_attention(chain, sizes, kind, block)
    heads = {"num_heads": kind.num_heads, "num_kv_heads": kind.num_kv_heads, "head_dim": kind.head_dim}
    qkv = Qkv(hidden=sizes.hidden, **heads, bias=kind.qkv_bias, qk_norm=kind.qk_norm, rope=kind.rope)
    chain.add(f"{block}.qkv", qkv, block=block)
    window = kind.window_of(index)
    core = Attention(**heads, causal=sizes.causal, flash=sizes.flash, dropout=sizes.dropout, window=window)
    chain.add(f"{block}.attention", core, block=block)
    out = Linear(in_features=kind.num_heads * kind.head_dim, out_features=sizes.hidden, bias=kind.out_bias)
    return chain.add(f"{block}.out", out, block=block)


def _latent_attention(chain: Chain, sizes: Transformer, kind: Latent, block: str) -> str:
    """Append projections down to the latents, their norms, projections up, the core and the output projection."""
    heads, keys = kind.num_heads, kind.nope_dim + kind.rope_dim

    def add(name: str, layer: Layer, *inputs: str) -> str:
        return chain.add(f"{block}.{name}", layer, *inputs, block=block)

    def linear(name: str, into: int, out: int, *inputs: str) -> str:
        return add(name, Linear(in_features=into, out_features=out, bias=False), *inputs)

    hidden = chain.last
    if kind.q_rank:
        linear("q_down", sizes.hidden, kind.q_rank)
        add("q_norm", Norm(features=kind.q_rank, function="rms"))
    q = linear("q_up", kind.q_rank or sizes.hidden, heads * keys)
    down = linear("kv_down", sizes.hidden, kind.kv_rank + kind.rope_dim, hidden)
    turned = add("k_rope", Slice(start=kind.kv_rank, stop=kind.kv_rank + kind.rope_dim), down)
    add("kv_latent", Slice(start=0, stop=kind.kv_rank), down)
    add("kv_norm", Norm(features=kind.kv_rank, function="rms"))
    kv = linear("kv_up", kind.kv_rank, heads * (kind.nope_dim + kind.value_dim))
    dims = {"nope_dim": kind.nope_dim, "rope_dim": kind.rope_dim, "value_dim": kind.value_dim}
    core = LatentAttention(num_heads=heads, **dims, causal=sizes.causal, flash=sizes.flash)
    add("attention", core, q, kv, turned)
    return linear("out", heads * kind.value_dim, sizes.hidden)


def _mlp(chain: Chain, sizes: Transformer, block: str, index: int) -> str:
    if sizes.experts and sizes.experts.has_layer(index):
        return _mixture(chain, sizes, sizes.experts, block)
    return _dense(chain, sizes, f"{block}.", sizes.inner, block)


def _dense(chain: Chain, sizes: Transformer, prefix: str, inner: int, block: str, *inputs: str) -> str:
    """Append two products around the non-linearity; where it is gated, the first makes gate and input in one."""
    parts = 2 if sizes.gated else 1
    first = Linear(in_features=sizes.hidden, out_features=parts * inner, bias=sizes.mlp_bias, num_parts=parts)
    chain.add(f"{prefix}fc1", first, *inputs, block=block)
    chain.add(f"{prefix}{_middle_name(sizes)}", _middle(sizes), block=block)
    second = Linear(in_features=inner, out_features=sizes.hidden, bias=sizes.mlp_bias)
    return chain.add(f"{prefix}fc2", second, block=block)


def _mixture(chain: Chain, sizes: Transformer, experts: Experts, block: str) -> str:
    """Append router, dispatch, the experts' products and combine; beside them the experts that everybody visits."""
    tokens = chain.last
    parts = 2 if sizes.gated else 1
    router = Router(hidden=sizes.hidden, num_experts=experts.num_experts, top_k=experts.top_k, scoring=experts.scoring)
    gates = chain.add(f"{block}.router", router, block=block)

    def grouped(into: int, out: int, num_parts: int) -> GroupedLinear:
        return GroupedLinear(
            in_features=into,
            out_features=out,
            num_experts=experts.num_experts,
            num_local=experts.num_experts,
            num_parts=num_parts,
            load_imbalance=experts.load_imbalance,
        )

    rows = chain.add(f"{block}.dispatch", Dispatch(top_k=experts.top_k), tokens, gates, block=block)
    first = grouped(sizes.hidden, parts * experts.inner, parts)
    chain.add(f"{block}.experts1", first, rows, gates, block=block)
    made = chain.add(f"{block}.experts_{_middle_name(sizes)}", _middle(sizes), block=block)
    made = chain.add(f"{block}.experts2", grouped(experts.inner, sizes.hidden, 1), made, gates, block=block)
    routed = chain.add(f"{block}.combine", Combine(top_k=experts.top_k), made, gates, block=block)
    if not experts.shared_inner:
        return routed
    common = _dense(chain, sizes, f"{block}.shared.", experts.shared_inner, block, tokens)
    return chain.add(f"{block}.experts_add", Add(), routed, common, block=block)


def _middle(sizes: Transformer) -> Layer:
    if sizes.gated:
        return Glu(function="silu" if sizes.function == "silu" else "gelu")
    return Activation(function=sizes.function)


def _middle_name(sizes: Transformer) -> str:
    return "glu" if sizes.gated else sizes.function
