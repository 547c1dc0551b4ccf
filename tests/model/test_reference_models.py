"""Loss and gradients against models written as one writes them in torch, layer functions aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
functional = torch.nn.functional

from executor.data import global_batch  # noqa: E402
from simulator.model import LayerGraph  # noqa: E402
from tests.model.test_families_torch import BATCH, inputs, run, weights  # noqa: E402

Values = dict[str, Any]


def rms(x: Any, weight: Any) -> Any:
    return functional.rms_norm(x, weight.shape, weight, eps=1e-6)


def turned(x: Any) -> Any:
    """Rotary positions of (batch, heads, sequence, size), as complex numbers."""
    sequence, size = x.shape[2:]
    waves = 10000.0 ** (-torch.arange(0, size, 2) / size)
    turns = torch.polar(torch.ones(()), torch.outer(torch.arange(sequence).float(), waves))
    pairs = torch.complex(x[..., : size // 2], x[..., size // 2 :]) * turns
    return torch.cat([pairs.real, pairs.imag], -1)


def heads_of(x: Any, number: int) -> Any:
    return x.unflatten(-1, (number, -1)).transpose(1, 2)


def attend(q: Any, k: Any, v: Any, causal: bool = True) -> Any:
    shared = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if causal:
        scores = scores + torch.full(scores.shape[-2:], float("-inf")).triu(1)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)


def llama_attention(x: Any, values: Values, block: str, heads: int = 4, shared: int = 2, size: int = 8) -> Any:
    q, k, v = (x @ values[f"{block}.qkv.weight"].t()).split([heads * size, shared * size, shared * size], -1)
    context = attend(turned(heads_of(q, heads)), turned(heads_of(k, shared)), heads_of(v, shared))
    return context @ values[f"{block}.out.weight"].t()


def swiglu(x: Any, first: Any, second: Any) -> Any:
    gate, up = (x @ first.t()).chunk(2, -1)
    return (functional.silu(gate) * up) @ second.t()


def llama(values: Values, ids: Any, mlp: Callable[[Any, Values, str], Any]) -> Any:
    x = values["embedding.weight"][ids]
    for block in ("block0", "block1"):
        x = x + llama_attention(rms(x, values[f"{block}.norm1.weight"]), values, block)
        x = x + mlp(rms(x, values[f"{block}.norm2.weight"]), values, block)
    return rms(x, values["norm.weight"]) @ values["head.weight"].t()


def dense(x: Any, values: Values, block: str) -> Any:
    return swiglu(x, values[f"{block}.fc1.weight"], values[f"{block}.fc2.weight"])


def mixture(x: Any, values: Values, block: str) -> Any:
    """Every expert for every token, weighed by zero where it was not chosen."""
    scores = (x @ values[f"{block}.router.weight"].t()).softmax(-1)
    best, chosen = scores.topk(2, -1)
    gates = torch.zeros_like(scores).scatter(-1, chosen, best / best.sum(-1, keepdim=True))
    first, second = values[f"{block}.experts1.expert_weight"], values[f"{block}.experts2.expert_weight"]
    every = torch.stack([swiglu(x, first[index], second[index]) for index in range(len(first))], -1)
    return (every * gates.unsqueeze(-2)).sum(-1)


def vit(values: Values, images: Any) -> Any:
    patches = functional.conv2d(images, values["patches.weight"], values["patches.bias"], stride=4)
    first = values["tokens.class_bias"].expand(len(images), 1, -1)
    x = torch.cat([first, patches.flatten(2).mT], 1) + values["tokens.position_weight"]

    def norm(x: Any, name: str) -> Any:
        return functional.layer_norm(x, (32,), values[f"{name}.weight"], values[f"{name}.bias"])

    def linear(x: Any, name: str) -> Any:
        return functional.linear(x, values[f"{name}.weight"], values[f"{name}.bias"])

    for block in ("block0", "block1"):
        q, k, v = linear(norm(x, f"{block}.norm1"), f"{block}.qkv").chunk(3, -1)
        x = x + linear(attend(heads_of(q, 4), heads_of(k, 4), heads_of(v, 4), causal=False), f"{block}.out")
        x = x + linear(functional.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.fc1")), f"{block}.fc2")
    return linear(norm(x, "norm")[:, 0], "head")


def resnet(values: Values, images: Any) -> Any:
    def conv(x: Any, name: str, stride: int = 1) -> Any:
        weight = values[f"{name}.weight"]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        scale, shift = values[f"{name}.norm.weight"], values[f"{name}.norm.bias"]
        return functional.batch_norm(x, None, None, scale, shift, training=True)

    x = functional.max_pool2d(conv(images, "stem", 2).relu(), 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for index in range(blocks):
            name, stride = f"stage{stage}.block{index}", 2 if stage and not index else 1
            made = conv(conv(conv(x, f"{name}.conv1").relu(), f"{name}.conv2", stride).relu(), f"{name}.conv3")
            x = (made + (conv(x, f"{name}.around", stride) if index == 0 else x)).relu()
    return functional.linear(x.mean((2, 3)), values["head.weight"], values["head.bias"])


MODELS: dict[str, Callable[[Values, Any], Any]] = {
    "llama": lambda values, ids: llama(values, ids, dense),
    "mixtral": lambda values, ids: llama(values, ids, mixture),
    "vit": vit,
    "resnet": resnet,
}


CASES = [(name, False) for name in MODELS] + [(name, True) for name in MODELS if name != "resnet"]
"""Every model, and those that have attention with fused attention too."""


def gradients(graph: LayerGraph, compute: Callable[[Values], Any]) -> tuple[float, Values]:
    values = weights(graph)
    loss = compute(values)
    loss.backward()
    return loss.item(), {name: value.grad for name, value in values.items()}


@pytest.mark.parametrize(("family", "flash"), CASES)
def test_gradients_are_those_of_a_model_written_in_torch(family: str, flash: bool) -> None:
    graph = inputs(family, *(["flash=true"] if flash else [])).graph
    batch, targets = global_batch(graph, BATCH, 0)

    def plain(values: Values) -> Any:
        return functional.cross_entropy(MODELS[family](values, batch).flatten(0, -2), targets.flatten())

    wanted, expected = gradients(graph, plain)
    found, ours = gradients(graph, lambda values: run(graph, values))
    assert found == pytest.approx(wanted, rel=1e-5)
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            ours[name], gradient, rtol=1e-3, atol=1e-4 * scale, msg=lambda text, n=name: f"{n}: {text}"
        )
