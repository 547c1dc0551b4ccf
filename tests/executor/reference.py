"""Training without any of plancast's machinery: one process, the whole batch at once, plain autograd."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from executor.data import global_batch
from executor.modules.build import initial_value
from executor.modules.dropout import Draws, Samples
from executor.modules.functions import FORWARD
from executor.modules.operations import PLAIN
from simulator.load import Inputs
from simulator.model.graph import INPUT

ROUNDING = 1e-6
"""Gradient below which Adam's step, gradient over its own size, is made of rounding: thousandths of such a gradient."""


def train(inputs: Inputs, steps: int, dtype: torch.dtype = torch.float32) -> tuple[list[float], dict[str, Tensor]]:
    """Return the loss of each step and the parameters after the last, by their names in the whole model.

    Where Adam divides by next to nothing the parameter is not a number: no two ways of summing agree there.
    """
    graph, plan = inputs.graph, inputs.plan
    values = {
        f"{node.name}.{name}": nn.Parameter(initial_value(f"{node.name}.{name}", shape).to(dtype).float())
        for node in graph.nodes
        for name, shape in node.layer.parameters().items()
    }
    rate = plan.optimizer.learning_rate
    optimizer: torch.optim.Optimizer
    if plan.optimizer.kind == "adam":
        optimizer = torch.optim.Adam(values.values(), lr=rate)
    else:
        momentum = plan.optimizer.momentum if plan.optimizer.kind == "momentum" else 0.0
        optimizer = torch.optim.SGD(values.values(), lr=rate, momentum=momentum)
    losses = []
    rounded: dict[str, Tensor] = {}
    for step in range(steps):
        batch, targets = global_batch(graph, plan.global_batch_size, step)
        tensors = {INPUT: batch if graph.integer_input else batch.to(dtype)}
        for node in graph.nodes:
            local = {name: values[f"{node.name}.{name}"].to(dtype) for name in node.layer.parameters()}
            if owner := getattr(node.layer, "weight_of", ""):
                local["weight"] = values[f"{owner}.weight"].to(dtype)
            arguments = [tensors[name] for name in node.inputs] + ([targets] if node is graph.loss else [])
            drawn = {"samples": Samples(step), "draws": Draws.of(node)} if node.layer.draws else {}
            tensors[node.name] = FORWARD[node.layer.kind](PLAIN, node.layer, local, *arguments, **drawn)
        loss = tensors[graph.loss.name]
        optimizer.zero_grad()
        loss.backward()
        if plan.optimizer.kind == "adam":
            for name, value in values.items():
                assert value.grad is not None
                size = value.grad.abs()
                rounded[name] = rounded.get(name, torch.zeros(())) + ((size > 0) & (size < ROUNDING)) > 0
        optimizer.step()
        losses.append(loss.item())
    for name, doubtful in rounded.items():
        values[name].data[doubtful] = torch.nan
    return losses, {name: value.detach() for name, value in values.items()}
