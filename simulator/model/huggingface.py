"""Hugging Face ``config.json`` files in the words of the model families; read as JSON, nothing is downloaded.

What costs nothing is left out: softcaps, scaling of embeddings, and sliding windows (attention is priced over the whole
sequence). So is dropout, which pretraining sets or not whatever the file says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulator.errors import Problems
from simulator.inputs.validate import did_you_mean

Config = Mapping[str, Any]
Data = dict[str, Any]


def is_config(data: Config) -> bool:
    """Return whether a mapping is such a file."""
    return "family" not in data and ("model_type" in data or "architectures" in data)


def translate(config: Config, path: str, problems: Problems) -> Data | None:
    """Return a model file's data, or None after reporting an architecture that is not known.

    Parameters
    ----------
    config
        What the file holds; ``sequence_length``, ``name``, ``flash`` and ``load_imbalance`` may be set beside it.
    path
        Where it was read; names the model if nothing else does.
    problems
        Told what is not known.
    """
    kind = str(config.get("model_type"))
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) or f"known: {', '.join(KINDS)}"
        problems.add("model.model_type", f"{kind!r} is not an architecture that can be read", hint)
        return None
    if "sequence_length" not in config:
        longest = config.get("max_position_embeddings", config.get("n_positions", "?"))
        hint = f"set model.sequence_length, at most {longest} (max_position_embeddings)"
        problems.add("model.sequence_length", "is missing", hint)
        return None
    own = {key: config[key] for key in ("sequence_length", "flash", "load_imbalance", "description") if key in config}
    data = {"name": str(config.get("name") or _name(path, kind)), **KINDS[kind](config), **own}
    return {key: value for key, value in data.items() if value is not None}


def _name(path: str, kind: str) -> str:
    file = Path(path)
    return re.sub(r"[^A-Za-z0-9._+-]", "-", file.stem if file.stem != "config" else file.resolve().parent.name) or kind


def _sizes(config: Config) -> Data:
    keys = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
    return {key: config.get(key) for key in keys}


def _tied(config: Config, usual: bool) -> bool:
    return bool(config.get("tie_word_embeddings", usual))


def _llama(config: Config) -> Data:
    keys = ("intermediate_size", "num_key_value_heads", "head_dim")
    biased = bool(config.get("attention_bias", False))
    return {
        "family": "llama",
        **_sizes(config),
        **{key: config.get(key) for key in keys},
        "qkv_bias": biased,
        "out_bias": biased,
        "tie_embeddings": _tied(config, False),
    }


def _qwen2(config: Config) -> Data:
    return _llama(config) | {"qkv_bias": True, "out_bias": False}


def _qwen3(config: Config) -> Data:
    return _llama(config) | {"qk_norm": True}


def _gemma(config: Config) -> Data:
    return _llama(config) | {"activation": "gelu", "tie_embeddings": _tied(config, True)}


def _gemma2(config: Config) -> Data:
    return _gemma(config) | {"post_norms": True}


def _gemma3(config: Config) -> Data:
    return _gemma2(config) | {"qk_norm": True}


def _mixtral(config: Config) -> Data:
    chosen = {
        "num_experts": config.get("num_local_experts"),
        "num_experts_per_token": config.get("num_experts_per_tok"),
    }
    return _llama(config) | {"family": "moe"} | chosen


def _qwen2_moe(config: Config) -> Data:
    return _qwen2(config) | _qwen_experts(config)


def _qwen3_moe(config: Config) -> Data:
    return _qwen3(config) | _qwen_experts(config)


def _qwen_experts(config: Config) -> Data:
    return {
        "family": "moe",
        "num_experts": config.get("num_experts"),
        "num_experts_per_token": config.get("num_experts_per_tok"),
        "moe_intermediate_size": config.get("moe_intermediate_size"),
        "shared_intermediate_size": config.get("shared_expert_intermediate_size") or 0,
        "moe_layer_freq": config.get("decoder_sparse_step", 1),
    }


def _deepseek(config: Config) -> Data:
    ranks = ("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    shared = (config.get("n_shared_experts") or 0) * (config.get("moe_intermediate_size") or 0)
    # Heads have sizes of their own: what the file says of key-value heads and head_dim does not hold for the latents.
    return _llama(config) | {
        "family": "moe",
        "num_key_value_heads": None,
        "head_dim": None,
        "num_experts": config.get("n_routed_experts"),
        "num_experts_per_token": config.get("num_experts_per_tok"),
        "moe_intermediate_size": config.get("moe_intermediate_size"),
        "shared_intermediate_size": shared,
        "first_dense_layers": config.get("first_k_dense_replace", 0),
        "moe_layer_freq": config.get("moe_layer_freq", 1),
        "scoring": config.get("scoring_func", "softmax"),
        "latent_attention": {key: config[key] for key in ranks if config.get(key) is not None},
    }


def _gpt2(config: Config) -> Data:
    return {
        "family": "gpt",
        "num_hidden_layers": config.get("n_layer"),
        "hidden_size": config.get("n_embd"),
        "num_attention_heads": config.get("n_head"),
        "intermediate_size": config.get("n_inner"),
        "vocab_size": config.get("vocab_size"),
        "max_positions": config.get("n_positions", config.get("n_ctx")),
        "tie_embeddings": _tied(config, True),
    }


def _gpt_neox(config: Config) -> Data:
    return {
        "family": "gpt",
        **_sizes(config),
        "intermediate_size": config.get("intermediate_size"),
        "positions": "rotary",
        "parallel_residual": bool(config.get("use_parallel_residual", True)),
        "tie_embeddings": _tied(config, False),
    }


KINDS: dict[str, Callable[[Config], Data]] = {
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "mixtral": _mixtral,
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _qwen3_moe,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
}
"""``model_type`` -> translation."""
