"""Model files of the networks in ``nets``, and training them without any of plancast's machinery."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from executor.data import global_batch
from executor.tracing.document import document
from executor.tracing.source import build, build_fake
from simulator.load import Inputs
from simulator.model.graph import LayerGraph
from simulator.model.module import module_source
from simulator.reports.yaml_text import yaml_text

NETS = "tests.tracing.nets"
TOKENS = "12:int:50"
SOURCES: dict[str, dict[str, Any]] = {
    "mlp": {"path": f"{NETS}:mlp", "inputs": ["12"]},
    "resnet": {"path": f"{NETS}:Resnet", "inputs": ["3x32x32"]},
    "mobile": {"path": f"{NETS}:Mobile", "inputs": ["4x6x6"]},
    "vit": {"path": f"{NETS}:Vit", "inputs": ["3x8x8"]},
    "gpt": {"path": f"{NETS}:Gpt", "inputs": [TOKENS]},
    "tied_gpt": {"path": f"{NETS}:tied_gpt", "inputs": [TOKENS]},
    "pair": {"path": f"{NETS}:Pair", "inputs": ["6", "beside=2x2"], "loss": "mse"},
    "own_loss": {"path": f"{NETS}:OwnLoss", "inputs": [TOKENS], "target": f"labels={TOKENS}", "loss": "module"},
}
HUGGING_FACE: dict[str, dict[str, Any]] = {
    name: {"path": f"tests.tracing.hugging_face_nets:{name}", "inputs": ["3x8x8" if name == "vit" else TOKENS]}
    for name in ("llama", "qwen2", "gpt2", "bert", "vit")
}


@cache
def keys(name: str) -> dict[str, Any]:
    """Return the model file of a network as plain data."""
    known = SOURCES | {f"hf_{model}": source for model, source in HUGGING_FACE.items()}
    given = {"target": None, "loss": "cross_entropy", **known[name]}
    module = build_fake(given["path"])
    path, target = given.pop("path"), given.pop("target")
    found = document(module, module_source(path, given["inputs"], target, given["loss"]))
    return {"name": name, "module": path, **({"target": target} if target else {}), **given, **found}


def write(name: str, folder: Path) -> str:
    """Write the model file of a network."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml_text(keys(name)))
    return str(path)


def loss_of(graph: LayerGraph, module: nn.Module, batch: Tensor, targets: Tensor) -> Tensor:
    """Return the loss that a module has by itself."""
    source = graph.module
    assert source
    parts = batch.flatten(1).split([each.size for each in source.inputs], 1)
    tensors = [part.view(-1, *each.shape) for part, each in zip(parts, source.inputs, strict=True)]
    positional = [tensor for tensor, each in zip(tensors, source.inputs, strict=True) if not each.name]
    named = {each.name: tensor for tensor, each in zip(tensors, source.inputs, strict=True) if each.name}
    if source.target:
        return module(*positional, **named, **{source.target.name: targets})["loss"]
    made = module(*positional, **named)
    made = made[0] if isinstance(made, tuple) else getattr(made, "logits", made)
    if source.loss == "mse":
        return functional.mse_loss(made, targets)
    return functional.cross_entropy(made.flatten(0, -2), targets.flatten())


def train(inputs: Inputs, steps: int) -> tuple[list[float], nn.Module]:
    """Train in one process, micro-batch by micro-batch, as plans must whose layers look at whole micro-batches."""
    graph, plan = inputs.graph, inputs.plan
    assert graph.module
    module = build(graph.module.path)
    optimizer = torch.optim.SGD(module.parameters(), lr=plan.optimizer.learning_rate)
    losses = []
    for step in range(steps):
        pairs = zip(
            *(each.split(plan.microbatch_size) for each in global_batch(graph, plan.global_batch_size, step)),
            strict=True,
        )
        optimizer.zero_grad()
        number = plan.global_batch_size // plan.microbatch_size
        found = 0.0
        for batch, targets in pairs:
            loss = loss_of(graph, module, batch, targets) / number
            loss.backward()
            found += loss.item()
        optimizer.step()
        losses.append(found)
    return losses, module
