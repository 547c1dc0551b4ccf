"""Times of single layers: a segment run forward and backward as training runs it, the clock read between layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from executor.modules.dropout import Samples
from executor.modules.operations import Closure
from executor.runtime import Runtime
from executor.stage import TARGET, StageModule
from simulator.cost.calibration import BACKWARD, FORWARD, INNER_GRAD, INPUT_GRAD, WEIGHT_GRAD, WEIGHT_ONLY
from simulator.model.graph import LayerGraph, Node

Clock = Callable[[], float]


class Mark(NamedTuple):
    """A moment of backward: when a layer's turn came, and how many weight gradients had been put off by then."""

    time: float
    deferred: int
    node: Node


@dataclass(frozen=True, slots=True)
class SegmentTimes:
    """Seconds of one run of a segment.

    Parameters
    ----------
    layers
        (layer, part of the calibration, seconds).
    passes
        Seconds of the whole segment: forward, and backward or its two halves.
    starts
        Seconds that a backward takes before its first layer: waking autograd.
    """

    layers: list[tuple[Node, str, float]] = field(default_factory=list)
    passes: dict[str, float] = field(default_factory=dict)
    starts: dict[str, float] = field(default_factory=dict)


def time_segment(
    stage: StageModule,
    part: int,
    graph: LayerGraph,
    borders: Mapping[str, Tensor],
    clock: Clock,
    pause: Callable[[], None],
) -> SegmentTimes:
    """Run a segment forward and backward once, the way its stage does: whole, or input gradients before weights'.

    In backward the clock is read when the gradient of a layer's output is there, which is when its backward begins.

    Parameters
    ----------
    stage, part
        The segment; parameter gradients accumulate in the stage's parameters.
    graph
        Of all layers.
    borders
        What the segment reads from elsewhere, by name.
    clock
        Returns seconds.
    pause
        Is called after each pass, for what training does there.
    """
    times, marks = SegmentTimes(), list[Mark]()
    queue: list[Closure] = []
    outputs = _forward(stage, part, borders, clock, times, lambda node: marks.append(Mark(clock(), len(queue), node)))
    pause()
    began = clock()
    roots = [output for output in outputs if output.requires_grad]
    if not roots:
        return times
    if stage.deferred:
        stage.deferred.queue = queue
    torch.autograd.backward(roots, [torch.ones_like(root) for root in roots])
    marks.append(Mark(clock(), len(queue), marks[-1].node))
    seconds = {begin.node.name: end.time - begin.time for begin, end in pairwise(marks)}
    whole, first = (INPUT_GRAD, INNER_GRAD) if stage.deferred else (BACKWARD, WEIGHT_ONLY)
    for module in stage.segments[part]:
        name = whole if graph.needs_input_grad(module.node) else first
        times.layers.append((module.node, name, seconds.get(module.node.name, 0.0)))
    times.passes[whole] = marks[-1].time - marks[0].time
    times.starts[whole] = marks[0].time - began
    if stage.deferred:
        stage.deferred.queue = []
        _weights(stage, part, queue, marks, clock, times)
    pause()
    return times


def _forward(
    stage: StageModule,
    part: int,
    borders: Mapping[str, Tensor],
    clock: Clock,
    times: SegmentTimes,
    reached: Callable[[Node], None],
) -> list[Tensor]:
    """Run and time each layer; ``reached`` is called in backward when a layer's turn comes. Return the outputs."""
    segment = stage.stage.segments[part]
    tensors = {
        name: borders[name].detach().requires_grad_(borders[name].is_floating_point() and name != "input")
        for name in segment.inputs
    }
    began = start = clock()
    for module in stage.segments[part]:
        inputs: list[Any] = [tensors[name] for name in module.node.inputs]
        if module.node.layer.reads_targets:
            inputs.append(borders[TARGET])
        if module.node.layer.draws:
            inputs.append(Samples())
        output = module(*inputs)
        if output.requires_grad:
            output.register_hook(lambda _, node=module.node: reached(node))
        tensors[module.node.name] = output
        # What the host does between layers is theirs too.
        start, before = clock(), start
        times.layers.append((module.node, FORWARD, start - before))
    times.passes[FORWARD] = start - began
    return [tensors[name] for name in segment.outputs]


@torch.no_grad()
def _weights(
    stage: StageModule, part: int, queue: list[Closure], marks: list[Mark], clock: Clock, times: SegmentTimes
) -> None:
    """Compute the gradients that backward put off, each timed for the layer whose turn it was."""
    seconds = {module.node.name: 0.0 for module in stage.segments[part]}
    began = clock()
    for begin, end in pairwise(marks):
        start = clock()
        for compute in queue[begin.deferred : end.deferred]:
            compute()
        seconds[begin.node.name] += clock() - start
    times.passes[WEIGHT_GRAD] = clock() - began
    times.layers.extend((module.node, WEIGHT_GRAD, seconds[module.node.name]) for module in stage.segments[part])


def random_borders(runtime: Runtime, index: int) -> dict[str, Tensor]:
    """Return a tensor for everything that the segments of a stage read from elsewhere."""
    batch = runtime.data.microbatch(0, 0)
    borders = {TARGET: batch.targets, "input": batch.inputs}
    for segment in runtime.program.stages[index].segments:
        for name in segment.inputs:
            if name not in borders:
                buffer = runtime.empty(name)
                borders[name] = buffer.normal_() if buffer.is_floating_point() else buffer.zero_()
    return borders
