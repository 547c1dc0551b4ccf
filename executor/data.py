"""Synthetic training data: the same global batch for every plan, so that plans can be compared number by number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from executor.modules.dropout import Samples
from executor.places import Places
from simulator.model.graph import LayerGraph
from simulator.model.module import ModuleTensor
from simulator.plan.plan import Plan

DISTINCT_BATCHES = 4
"""Global batches kept in memory; training goes round them."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs and targets of one micro-batch, batch axis first."""

    inputs: Tensor
    targets: Tensor


class Data:
    """Micro-batches of one data-parallel replica.

    Parameters
    ----------
    graph
        The whole model; says what inputs and targets look like.
    plan
        Says how a global batch is cut: replica by replica, then micro-batch by micro-batch.
    dp_rank
        Which replica.
    dtype, device
        Of real-valued inputs.
    places
        Of each sequence, where this rank has only some.
    """

    def __init__(
        self,
        graph: LayerGraph,
        plan: Plan,
        dp_rank: int,
        dtype: torch.dtype,
        device: torch.device,
        places: Places | None = None,
    ) -> None:
        self._batches: list[list[Batch]] = []
        share = plan.microbatch_size * plan.num_microbatches
        self._first, self._size = dp_rank * share, plan.microbatch_size
        for seed in range(DISTINCT_BATCHES):
            inputs, targets = global_batch(graph, plan.global_batch_size, seed)
            if places:
                inputs, targets = inputs[:, places.own], targets[:, places.own]
            if not graph.integer_input:
                inputs = inputs.to(dtype)
            mine = slice(dp_rank * share, (dp_rank + 1) * share)
            pairs = zip(
                inputs[mine].split(plan.microbatch_size), targets[mine].split(plan.microbatch_size), strict=True
            )
            self._batches.append([Batch(x.to(device), y.to(device)) for x, y in pairs])

    def microbatch(self, step: int, index: int) -> Batch:
        """Return a micro-batch of a step."""
        return self._batches[step % DISTINCT_BATCHES][index]

    def samples(self, step: int, index: int) -> Samples:
        """Return which samples a micro-batch of a step holds."""
        return Samples(step, self._first + index * self._size)


def global_batch(graph: LayerGraph, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of a global batch.

    Real targets are a fixed linear function of the inputs, y = 2 mean(x) + 1, so that one neuron can learn them;
    class targets are random.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (size, *graph.input_shape)
    if graph.module:
        inputs = torch.cat([_drawn(each, size, generator) for each in graph.module.inputs], 1).view(shape)
    elif graph.integer_input:
        inputs = torch.randint(_vocabulary(graph), shape, generator=generator)
    else:
        inputs = torch.randn(shape, generator=generator)
    if graph.num_classes:
        return inputs, torch.randint(graph.num_classes, (size, *graph.target_shape), generator=generator)
    level = 2 * inputs.float().flatten(1).mean(1) + 1
    return inputs, level.view(size, *([1] * len(graph.target_shape))).expand(size, *graph.target_shape).contiguous()


def _drawn(tensor: ModuleTensor, size: int, generator: torch.Generator) -> Tensor:
    """Return random values of one of a module's inputs, flattened."""
    if tensor.below:
        return torch.randint(tensor.below, (size, tensor.size), generator=generator)
    return torch.randn((size, tensor.size), generator=generator)


def _vocabulary(graph: LayerGraph) -> int:
    return next(int(node.layer.vocab_size) for node in graph.consumers["input"] if hasattr(node.layer, "vocab_size"))
