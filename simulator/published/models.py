"""Shape of a row -> a model: a family with the row's sizes, or a shipped preset of that name and size."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from simulator.inputs.presets import preset_names, preset_path
from simulator.inputs.yaml_source import read_document
from simulator.model.schema import FORMS
from simulator.published.draft import REFINES, Draft
from simulator.published.frameworks import attention_of, framework_of
from simulator.published.masked_language import put_lengths
from simulator.published.row import Row

SIZES = {
    "num_hidden_layers": "layers",
    "hidden_size": "hidden",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "intermediate_size": "ffn_hidden",
    "vocab_size": "vocab",
    "sequence_length": "seq_len",
    "num_experts": "experts",
    "num_experts_per_token": "topk",
}
"""Key of a family, in Hugging Face's words -> column."""

NEEDED: dict[str, tuple[str, ...]] = {"gpt": ("layers", "hidden", "heads", "seq_len")}
NEEDED["llama"] = (*NEEDED["gpt"], "ffn_hidden")
NEEDED["moe"] = (*NEEDED["llama"], "experts", "topk", "kv_heads")
"""Columns without which a family is not known; experts without kv_heads are those of latent attention, as a rule."""

VOCABULARIES = {"gpt": 51200, "llama": 32000}
"""Where none is stated: GPT-2's 50,257 words padded as Megatron does, and those of Llama 1 and 2."""

DROPPING = ("gpt", "bert")
"""Families with dropout."""

ABSENT: dict[str, Any] = {"flash": REFINES}
"""How a version behaves whose families lack a key."""


def put_model(model: Draft, row: Row) -> None:
    """Describe the model."""
    arch = row.text("arch").lower() or "gpt"
    if re.search(r"\b(?:q?lora|peft|adapter)\b", row.words("model", "notes")):
        row.problems.add("model", "trains adapters alone", "frozen parameters are not there yet")
    preset = preset_for(row)
    if preset is not None:
        _from_preset(model, row, preset)
    elif arch in NEEDED and arch in FORMS:
        _from_family(model, row, arch)
    else:
        named = f", and no shipped model is called {row.text('model')}" if row.text("model") else ""
        row.problems.add("arch", f'"{arch}" is not a family that is there{named}')
        return
    _fuse_attention(model, row)
    _drop_out(model, row)
    if model.data["family"] == "bert":
        put_lengths(model, row)
    model.keep(FORMS[str(model.data["family"])], "model", ABSENT, row.problems)


def _from_family(model: Draft, row: Row, family: str) -> None:
    model.put("name", slug(row.text("model")) or family, "the row's model" if row.text("model") else "default")
    model.put("family", family)
    for column in NEEDED[family]:
        row.required(column)
    for key, column in SIZES.items():
        if (value := row.count(column)) is not None:
            model.put(key, value)
    if "vocab_size" not in model.data:
        if family in VOCABULARIES:
            model.put("vocab_size", VOCABULARIES[family], "default: not stated")
        else:
            row.problems.add("vocab", "is not stated")
    if model.data.get("num_key_value_heads", 0) == model.data.get("num_attention_heads"):
        # Every query head has its own; a family need not know that there are others.
        del model.data["num_key_value_heads"], model.origins["num_key_value_heads"]


def _from_preset(model: Draft, row: Row, name: str) -> None:
    """Take a shipped model; sizes that the row states override it (proxies have fewer layers, other sequences)."""
    preset = _preset(name)
    for key, value in preset.items():
        model.put(key, value, f"shipped model {name}")
    for key in ("num_hidden_layers", "sequence_length", "vocab_size"):
        value = row.count(SIZES[key])
        if value is not None and preset.get(key, value) != value:
            model.put(key, value)
    dense = re.search(r"(\d+) dense", row.words("model"))
    if dense and "first_dense_layers" in preset:
        model.put("first_dense_layers", int(dense[1]), f'"{dense[0]}"')


def _fuse_attention(model: Draft, row: Row) -> None:
    """Say whether attention is one kernel, of families that have any."""
    if "num_attention_heads" in model.data:
        kind, why = attention_of(row, framework_of(row))
        model.put("flash", kind == "flash", why)


def _drop_out(model: Draft, row: Row) -> None:
    """Say what is dropped, of families that drop anything."""
    framework = framework_of(row)
    if model.data["family"] in DROPPING and framework.dropout:
        model.put("dropout", framework.dropout, f"default of {framework.name}")


def preset_for(row: Row) -> str | None:
    """Return the shipped model that a row names, if every width that the row states is that model's."""
    widths = ("hidden_size", "num_attention_heads", "num_key_value_heads")
    named = row.text("model").lower()
    versionless = re.sub(r"\bv\d[\d.]*\b", "", named)
    sizeless = re.sub(r"[ _-]\d+(?:\.\d+)?b\b", "", re.sub(r"\(.*?\)", "", named))
    for wanted in dict.fromkeys(map(_plain, (named, versionless, sizeless))):
        for name in preset_names("models"):
            if wanted and _plain(name) == wanted:
                data = _preset(name)
                stated = {key: row.count(SIZES[key]) for key in widths if key in data}
                if "family" in data and all(value in (None, data[key]) for key, value in stated.items()):
                    return name
    return None


def slug(text: str) -> str:
    """Return text as a name that a file may have."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.+_")[:100]


def _plain(text: str) -> str:
    """Return a model's name without what people write differently: LLAMA3.1_405B, Llama 3.1 405B, llama-3.1-405b."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"\(.*?\)|meta-?", "", text.lower()))


@cache
def _preset(name: str) -> dict[str, Any]:
    return read_document(str(preset_path("models", name)), "model").data
