"""Hugging Face models built from small configurations; nothing is downloaded."""

from __future__ import annotations

from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
GROUPED = {"vocab_size": 50, "num_key_value_heads": 2, "max_position_embeddings": 32, "use_cache": False}


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**SIZES, **GROUPED))


def qwen2() -> nn.Module:
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, **GROUPED))


def gpt2() -> nn.Module:
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    sizes = {"vocab_size": 50, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**sizes, **dropout, use_cache=False))


def bert() -> nn.Module:
    sizes = {"vocab_size": 50, "max_position_embeddings": 32}
    return BertForMaskedLM(BertConfig(**SIZES, **sizes, **NO_DROPOUT, tie_word_embeddings=False))


def vit() -> nn.Module:
    sizes = {"image_size": 8, "patch_size": 4, "num_labels": 5}
    return ViTForImageClassification(ViTConfig(**SIZES, **sizes, **NO_DROPOUT))
