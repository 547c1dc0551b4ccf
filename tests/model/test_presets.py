"""Every preset of a known model has the number of parameters that was published for it."""

import pytest

from simulator.inputs.presets import preset_names
from simulator.model.build import preset_graph

GPT2 = "Hugging Face, number of parameters of the released checkpoint"
GPT3 = "arXiv 2005.14165, table 2.1"
SC21 = "arXiv 2104.04473, table 1"
SELECTIVE = "arXiv 2205.05198, table 3"
OPT = "arXiv 2205.01068, table 1"
MPT = "llm-foundry, scripts/train/benchmarking/README.md, column of model sizes at 2048 tokens"
PYTHIA = "github.com/EleutherAI/pythia, README, total parameters"
CARD = "Hugging Face, number of parameters of the released checkpoint"
VISION = "torchvision, num_params of the weights' meta data"

# name: (published, source); text keeps how many digits were published.
PUBLISHED = {
    "gpt2": ("124439808", GPT2),
    "gpt2-medium": ("354823168", GPT2),
    "gpt2-large": ("774030080", GPT2),
    "gpt2-xl": ("1557611200", GPT2),
    "gpt3-125m": ("125e6", GPT3),
    "gpt3-760m": ("760e6", GPT3),
    "gpt3-175b": ("175.0e9", GPT3),
    "megatron-1.7b": ("1.7e9", SC21),
    "megatron-3.6b": ("3.6e9", SC21),
    "megatron-7.5b": ("7.5e9", SC21),
    "megatron-18.4b": ("18.4e9", SC21),
    "megatron-39.1b": ("39.1e9", SC21),
    "megatron-76.1b": ("76.1e9", SC21),
    "megatron-145.6b": ("145.6e9", SC21),
    "megatron-310.1b": ("310.1e9", SC21),
    "megatron-530b": ("529.6e9", SC21),
    "megatron-1t": ("1008.0e9", SC21),
    "megatron-22b": ("22e9", SELECTIVE),
    "megatron-175b": ("175e9", SELECTIVE),
    "opt-125m": ("125e6", OPT),
    "opt-1.3b": ("1.3e9", OPT),
    "opt-2.7b": ("2.7e9", OPT),
    "opt-6.7b": ("6.7e9", OPT),
    "opt-13b": ("13e9", OPT),
    "opt-30b": ("30e9", OPT),
    "opt-66b": ("66e9", OPT),
    "opt-175b": ("175e9", OPT),
    "mpt-125m": ("125311488", MPT),
    "mpt-350m": ("355985408", MPT),
    "mpt-760m": ("760470528", MPT),
    "mpt-1b": ("1315950592", MPT),
    "mpt-3b": ("2651837440", MPT),
    "mpt-7b": ("6658859008", MPT),
    "mpt-13b": ("12853954560", MPT),
    "mpt-30b": ("29975214080", MPT),
    "mpt-70b": ("64862437376", MPT),
    "pythia-70m": ("70426624", PYTHIA),
    "pythia-160m": ("162322944", PYTHIA),
    "pythia-410m": ("405334016", PYTHIA),
    "pythia-1b": ("1011781632", PYTHIA),
    "pythia-1.4b": ("1414647808", PYTHIA),
    "pythia-2.8b": ("2775208960", PYTHIA),
    "pythia-6.9b": ("6857302016", PYTHIA),
    "pythia-12b": ("11846072320", PYTHIA),
    "gpt-neox-20b": ("20554567680", "Hugging Face, EleutherAI/gpt-neox-20b, n_parameters"),
    "bert-base": ("110e6", "Hugging Face, model card of bert-base-uncased"),
    "bert-large": ("336e6", "Hugging Face, model card of bert-large-uncased"),
    "llama-7b": ("6.7e9", "arXiv 2302.13971, table 2"),
    "llama-13b": ("13.0e9", "arXiv 2302.13971, table 2"),
    "llama-33b": ("32.5e9", "arXiv 2302.13971, table 2"),
    "llama-65b": ("65.2e9", "arXiv 2302.13971, table 2"),
    "llama2-7b": ("6738415616", CARD),
    "llama2-13b": ("13015864320", CARD),
    "llama2-70b": ("68976648192", CARD),
    "llama3-8b": ("8030261248", CARD),
    "llama3-70b": ("70553706496", CARD),
    "llama3-405b": ("405853388800", CARD),
    "llama3.2-1b": ("1235814400", CARD),
    "llama3.2-3b": ("3212749824", CARD),
    "mistral-7b": ("7241732096", CARD),
    "mixtral-8x7b": ("46702792704", CARD),
    "mixtral-8x22b": ("140620634112", CARD),
    "qwen2.5-0.5b": ("494032768", CARD),
    "qwen2.5-1.5b": ("1543714304", CARD),
    "qwen2.5-3b": ("3085938688", CARD),
    "qwen2.5-7b": ("7615616512", CARD),
    "qwen2.5-14b": ("14770033664", CARD),
    "qwen2.5-32b": ("32763876352", CARD),
    "qwen2.5-72b": ("72706203648", CARD),
    "qwen3-0.6b": ("0.6e9", "Hugging Face, model card of Qwen3-0.6B"),
    "qwen3-1.7b": ("1.7e9", "Hugging Face, model card of Qwen3-1.7B"),
    "qwen3-4b": ("4.0e9", "Hugging Face, model card of Qwen3-4B"),
    "qwen3-8b": ("8190735360", CARD),
    "qwen3-14b": ("14768307200", CARD),
    "qwen3-32b": ("32762123264", CARD),
    "qwen3-30b-a3b": ("30532122624", CARD),
    "qwen3-235b-a22b": ("235093634560", CARD),
    "deepseek-v2-lite": ("15706484224", CARD),
    "deepseek-v2": ("235741434880", CARD),
    "deepseek-v3": ("671e9", "arXiv 2412.19437, abstract"),
    "gpt-oss-20b": ("20.9e9", "arXiv 2508.10925, abstract of the model card"),
    "gpt-oss-120b": ("116.8e9", "arXiv 2508.10925, abstract of the model card"),
    "gemma-2b": ("2506172416", CARD),
    "gemma-7b": ("8537680896", CARD),
    "gemma2-2b": ("2614341888", CARD),
    "gemma2-9b": ("9241705984", CARD),
    "gemma2-27b": ("27227128320", CARD),
    "vit-b-16": ("86567656", VISION),
    "vit-l-16": ("304326632", VISION),
    "vit-h-14": ("632045800", VISION),
    "resnet-50": ("25557032", VISION),
    "resnet-101": ("44549160", VISION),
    "resnet-152": ("60192808", VISION),
}
OURS = {"cnn-tiny", "gpt-tiny", "linear-regression", "mlp-tiny", "residual-list"}
"""Presets that are nobody else's model."""


def half_of_the_last_digit(published: str) -> float:
    digits, _, exponent = published.partition("e")
    decimals = len(digits.partition(".")[2])
    return 0.5 * 10 ** (int(exponent or 0) - decimals)


@pytest.mark.parametrize("preset", PUBLISHED)
def test_parameters_are_as_published(preset: str) -> None:
    """To 0.5 %, or to the digits that the source gives where those are fewer."""
    published, source = PUBLISHED[preset]
    allowed = max(0.005 * float(published), half_of_the_last_digit(published))
    assert preset_graph(preset).num_parameters == pytest.approx(float(published), abs=allowed), source


def test_every_known_model_has_a_published_number() -> None:
    assert set(preset_names("models")) == PUBLISHED.keys() | OURS
    assert len(PUBLISHED) >= 30


@pytest.mark.parametrize("preset", ["deepseek-v3", "deepseek-v2", "qwen3-30b-a3b", "mixtral-8x7b"])
def test_active_parameters_of_mixtures(preset: str) -> None:
    """Parameters that one token meets: all but the experts that it does not visit."""
    # arXiv 2412.19437, 2405.04434, 2505.09388 (30B-A3B: 3.3 on the model card), 2401.04088 (12.9).
    published = {"deepseek-v3": 37e9, "deepseek-v2": 21e9, "qwen3-30b-a3b": 3.3e9, "mixtral-8x7b": 12.9e9}
    graph = preset_graph(preset)
    active = 0.0
    for node in graph.nodes:
        layer = node.layer
        share = graph.by_name[node.inputs[1]].layer.top_k / layer.num_experts if layer.kind == "grouped_linear" else 1
        active += share * layer.num_parameters
    assert active == pytest.approx(published[preset], rel=0.025)
