"""Inputs of products that a framework keeps as they were cast, and rows of experts that it lets go of, by hand."""

from __future__ import annotations

import pytest

from simulator.load import load
from simulator.model.layers.base import count
from simulator.program.liveness import held_after
from simulator.program.program import Program

BLOCKS, H, FFN = 2, 4096, 14336
"""Hidden sizes of both Llama 3 8B and Mixtral 8x7B."""


def compiled(model: str, *settings: str, framework: str, topology: str = "dgx-h100") -> Program:
    changes = [f"model.num_hidden_layers={BLOCKS}", f"plan.framework={framework}"]
    return load(model, topology, "single", [*changes, *(f"plan.{each}" for each in settings)]).program


def bytes_a_token(model: str, *settings: str, framework: str = "megatron-core", topology: str = "dgx-h100") -> float:
    """Return how many more bytes of a token a block keeps with a framework than without."""
    kept = []
    for name in ("none", framework):
        program = compiled(model, *settings, framework=name, topology=topology)
        held = held_after(program, 0)
        assert held[-1] == 0
        kept.append(max(held))
    tokens = program.plan.microbatch_size * count(program.graph.target_shape)
    return (kept[1] - kept[0]) / tokens / BLOCKS


@pytest.mark.parametrize(("dtype", "topology", "size"), [("fp8", "dgx-h100", 1.0), ("fp4", "dgx-b200", 0.5625)])
def test_a_product_keeps_what_it_has_cast_alone(dtype: str, topology: str, size: float) -> None:
    """Both norms' outputs and SwiGLU's; attention keeps its own output besides, in 16 bits."""
    more = bytes_a_token("llama3-8b", "dp=8", f"dtype={dtype}", topology=topology)
    assert more == (size - 2) * (2 * H + FFN) + size * H


@pytest.mark.parametrize("framework", ["fsdp", "megatron"])
def test_others_keep_it_in_16_bits(framework: str) -> None:
    assert bytes_a_token("llama3-8b", "dp=8", "dtype=fp8", framework=framework) == 0


def test_in_16_bits_nothing_is_cast() -> None:
    assert bytes_a_token("llama3-8b", "dp=8", "dtype=bf16") == 0


@pytest.mark.parametrize(("sequence_parallel", "norms"), [(False, 2 * H), (True, H)])
def test_what_is_gathered_anew_is_kept_as_the_part_that_was_cast(sequence_parallel: bool, norms: int) -> None:
    settings = ("tp=2", "dp=4", "dtype=fp8", f"sequence_parallel={str(sequence_parallel).lower()}")
    assert bytes_a_token("llama3-8b", *settings) == -norms - FFN / 2 + H / 2


@pytest.mark.parametrize(("dtype", "cast"), [("fp8", -H + H - 2 * H - 2 * FFN), ("bf16", 0)])
def test_rows_are_kept_once_and_not_behind_their_experts(dtype: str, cast: int) -> None:
    """Of two experts a token; the router reads the second norm's output in 16 bits."""
    settings = ("dp=8", "ep=8", f"dtype={dtype}")
    assert bytes_a_token("mixtral-8x7b", *settings) == cast - 2 * 2 * H


def test_weight_gradients_wait_with_what_was_cast() -> None:
    settings = ("dp=8", "dtype=fp8", "schedule=zb_h1", "num_microbatches=1")
    after = {}
    for framework in ("none", "megatron-core"):
        program = compiled("llama3-8b", *settings, framework=framework)
        kinds = [each.kind.name for each in program.lists[0] if each.kind.name in ("F", "B", "I", "W")]
        after[framework] = dict(zip(kinds, held_after(program, 0), strict=False))["I"]
    tokens = program.plan.microbatch_size * count(program.graph.target_shape)
    # Attention's output in 16 bits has gone with the input gradients.
    assert after["megatron-core"] - after["none"] == -tokens * BLOCKS * (3 * H + FFN)
