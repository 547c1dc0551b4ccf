"""The families at sizes that a test can run."""

GPT = "num_hidden_layers=2 hidden_size=32 num_attention_heads=4 vocab_size=50 sequence_length=12"
LLAMA = f"{GPT} intermediate_size=40 num_key_value_heads=2"
MOE = f"{LLAMA} num_experts=4 num_experts_per_token=2 moe_intermediate_size=24"
DIMS = {"kv_lora_rank": 16, "q_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6}
LATENT = " ".join(f"latent_attention.{name}={size}" for name, size in DIMS.items())
VIT = "image_size=16 patch_size=4 num_hidden_layers=2 hidden_size=32 num_attention_heads=4 num_classes=10"

# name: (preset, sizes)
SMALL = {
    "gpt": ("gpt-tiny", GPT),
    "gpt-tied": ("gpt2", f"{GPT} max_positions=16"),
    "neox": ("pythia-70m", GPT),
    "llama": ("llama3-8b", LLAMA),
    "qwen3": ("qwen3-8b", f"{LLAMA} head_dim=8"),
    "gemma2": ("gemma2-2b", f"{LLAMA} head_dim=8"),
    "mixtral": ("mixtral-8x7b", MOE),
    "deepseek": ("deepseek-v3", f"{MOE} num_hidden_layers=3 first_dense_layers=1 shared_intermediate_size=16 {LATENT}"),
    "bert": ("bert-large", GPT),
    "bert-masked": ("bert-large", f"{GPT} predictions_per_sequence=5"),
    "vit": ("vit-b-16", VIT),
    "resnet": ("resnet-50", "image_size=32 width=4 num_classes=10"),
}


def changes(family: str, *further: str) -> list[str]:
    """Return the settings of a family."""
    return [f"model.{size}" for size in (*SMALL[family][1].split(), *further)]
