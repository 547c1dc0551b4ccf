"""Hugging Face configurations, as they are published, without a download."""

import json
from pathlib import Path
from typing import Any

import pytest

from simulator.errors import InputError
from simulator.load import Inputs, load
from simulator.model.build import preset_graph

COMMON = {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "intermediate_size": 14336}
DEEPSEEK = {
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "num_experts_per_tok": 8,
    "moe_layer_freq": 1,
}

# preset: what the model's config.json says, but for what costs nothing
CONFIGS: dict[str, dict[str, Any]] = {
    "llama3-8b": {"model_type": "llama", **COMMON, "num_key_value_heads": 8, "vocab_size": 128256, "rope_theta": 5e5},
    "mistral-7b": {"model_type": "mistral", **COMMON, "num_key_value_heads": 8, "vocab_size": 32000},
    "mixtral-8x7b": {
        "model_type": "mixtral",
        **COMMON,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "num_hidden_layers": 28,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
    },
    "qwen3-8b": {
        "model_type": "qwen3",
        "num_hidden_layers": 36,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "attention_bias": False,
        "vocab_size": 151936,
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe",
        "num_hidden_layers": 48,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 151936,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "decoder_sparse_step": 1,
    },
    "gemma-7b": {
        "model_type": "gemma",
        "num_hidden_layers": 28,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "vocab_size": 256000,
    },
    "gemma2-9b": {
        "model_type": "gemma2",
        "num_hidden_layers": 42,
        "hidden_size": 3584,
        "intermediate_size": 14336,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "vocab_size": 256000,
        "sliding_window": 4096,
    },
    "deepseek-v3": {
        "model_type": "deepseek_v3",
        **DEEPSEEK,
        "num_hidden_layers": 61,
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "vocab_size": 129280,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "moe_intermediate_size": 2048,
        "first_k_dense_replace": 3,
        "scoring_func": "sigmoid",
    },
    "deepseek-v2": {
        "model_type": "deepseek_v2",
        **DEEPSEEK,
        "num_experts_per_tok": 6,
        "num_hidden_layers": 60,
        "hidden_size": 5120,
        "intermediate_size": 12288,
        "vocab_size": 102400,
        "n_routed_experts": 160,
        "n_shared_experts": 2,
        "moe_intermediate_size": 1536,
        "first_k_dense_replace": 1,
    },
    "gpt2-xl": {
        "model_type": "gpt2",
        "n_layer": 48,
        "n_embd": 1600,
        "n_head": 25,
        "n_positions": 1024,
        "vocab_size": 50257,
    },
    "gpt-neox-20b": {
        "model_type": "gpt_neox",
        "num_hidden_layers": 44,
        "hidden_size": 6144,
        "intermediate_size": 24576,
        "num_attention_heads": 64,
        "vocab_size": 50432,
        "tie_word_embeddings": False,
    },
}


def loaded(model: Path | str, *settings: str) -> Inputs:
    return load(str(model), "pcie-box", "single", ["topology.node.count=1", *settings])


@pytest.mark.parametrize("preset", CONFIGS)
def test_a_configuration_is_the_preset_of_the_same_model(preset: str, tmp_path: Path) -> None:
    folder = tmp_path / "some model"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"architectures": ["X"], "torch_dtype": "bfloat16"} | CONFIGS[preset])
    )
    ours = preset_graph(preset)
    graph = loaded(
        folder / "config.json", f"model.sequence_length={ours.tokens_per_sample}", "plan.attention=math"
    ).graph
    assert graph.name == "some-model"
    assert graph.nodes == ours.nodes


def test_a_model_file_may_name_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["mixtral-8x7b"]))
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"name: mine\nconfig: {tmp_path}/config.json\nsequence_length: 1024\nload_imbalance: 1.25\nflash: true\n"
    )
    graph = loaded(file).graph
    assert (graph.name, graph.tokens_per_sample) == ("mine", 1024)
    assert graph.by_name["block0.experts1"].layer.load_imbalance == 1.25
    assert graph.by_name["block0.attention"].layer.flash


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (
            {"model_type": "rwkv"},
            [],
            "model.model_type: 'rwkv' is not an architecture that can be read; known: llama",
        ),
        ({"model_type": "lama"}, [], "'lama' is not an architecture that can be read; did you mean llama?"),
        (CONFIGS["llama3-8b"], [], "model.sequence_length: is missing; set model.sequence_length"),
        ({"model_type": "llama", "hidden_size": 8}, ["model.sequence_length=4"], "model.num_hidden_layers: is missing"),
        (
            {**CONFIGS["llama3-8b"], "num_key_value_heads": 6},
            ["model.sequence_length=4"],
            "6 does not divide num_attention_heads 32 (remainder 2); legal neighbour: 4 or 8",
        ),
    ],
)
def test_what_cannot_be_read_is_said(config: dict[str, Any], settings: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(InputError) as raised:
        loaded(path, *settings)
    assert message in str(raised.value)
