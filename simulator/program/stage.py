"""A pipeline stage: its segments (the pieces that one F or B instruction runs) and its gradient buckets."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.plan.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Nodes that run as one instruction: nothing is communicated inside.

    Parameters
    ----------
    nodes
        In running order.
    inputs, outputs
        Tensors read from, and needed by, other segments or stages.
    parallel
        A tensor-parallel region: its outputs are partial sums that must be all-reduced.
    reduces_backward
        Its input gradients are partial sums and somebody needs them.
    unit
        Number, in its stage, of the block that it is a part of; 0 for all in plans that treat no block apart.
    recomputed
        Its forward keeps nothing for backward but the inputs of its unit, and runs again.
    reduces_again
        Its outputs are partial sums that must be all-reduced when it runs again, for the rest of its unit.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parallel: bool
    reduces_backward: bool
    unit: int = 0
    recomputed: bool = False
    reduces_again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Parameter gradients that are reduced together; in sharded plans those of one block, whose parameters are too.

    Parameters
    ----------
    nodes
        Names of the nodes whose parameters it holds, in backward order.
    elements
        Scalars in it; where it is sharded, with those that fill it up to a multiple of the replicas.
    segment
        Segment whose backward completes it.
    """

    nodes: tuple[str, ...]
    elements: int
    segment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pipeline stage of one tensor-parallel rank.

    Parameters
    ----------
    segments
        In forward order.
    receives, sends
        Tensors that enter from the stage before and leave to the next.
    gradients_in, gradients_out
        Those whose gradients come back from the next stage, and go back to the one before.
    buckets
        Gradient buckets in the order in which backward completes them.
    """

    index: int
    segments: tuple[Segment, ...]
    receives: tuple[str, ...]
    sends: tuple[str, ...]
    gradients_in: tuple[str, ...]
    gradients_out: tuple[str, ...]
    buckets: tuple[Bucket, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in running order."""
        return tuple(node for segment in self.segments for node in segment.nodes)

    @property
    def num_parameters(self) -> int:
        """Trainable scalars of one rank."""
        return sum(node.layer.num_parameters for node in self.nodes)

    def unit_of(self, part: int) -> range:
        """Return the segments of the unit that a segment belongs to."""
        units = [segment.unit for segment in self.segments]
        first = units.index(units[part])
        return range(first, first + units.count(units[part]))

    def sharded_bucket(self, part: int) -> int | None:
        """Return the bucket of a segment's unit in a sharded plan, None if the unit has no parameters."""
        unit = self.segments[part].unit
        return next((i for i, bucket in enumerate(self.buckets) if self.segments[bucket.segment].unit == unit), None)

    def inner_outputs(self, part: int) -> tuple[str, ...]:
        """Return the outputs of a segment that nothing outside its unit reads."""
        unit = self.unit_of(part)
        outside = {name for index, other in enumerate(self.segments) if index not in unit for name in other.inputs}
        return tuple(name for name in self.segments[part].outputs if name not in outside and name not in self.sends)

    def unit_inputs(self, part: int) -> tuple[str, ...]:
        """Return the tensors that the unit of a segment reads from outside."""
        unit = [self.segments[index] for index in self.unit_of(part)]
        made = {node.name for segment in unit for node in segment.nodes}
        return tuple(dict.fromkeys(name for segment in unit for name in segment.inputs if name not in made))


def build_stages(graph: LayerGraph, plan: Plan, cuts: tuple[int, ...], pipelines: int = 1) -> tuple[Stage, ...]:
    """Return the stages of a cut graph, once for each pipeline.

    Parameters
    ----------
    graph
        The graph of one tensor-parallel rank.
    plan
        Says how gradients are bucketed.
    cuts
        Index of the first node of each stage.
    pipelines
        Replicas of the stages on the same ranks; then gradients are reduced even without data parallelism.
    """
    ends = [*cuts[1:], len(graph.nodes)]
    reduces = plan.dp * pipelines > 1
    stages = [_stage(graph, plan, index, *span, reduces) for index, span in enumerate(zip(cuts, ends, strict=True))]
    return tuple(
        replace(stage, index=stage.index + pipeline * len(stages)) for pipeline in range(pipelines) for stage in stages
    )


def _stage(graph: LayerGraph, plan: Plan, index: int, first: int, end: int, reduces: bool) -> Stage:
    nodes = graph.nodes[first:end]
    blocks = _block_starts(nodes) if plan.recompute == "full" or plan.is_sharded else [0]
    buckets = (_block_buckets(nodes, blocks) if plan.is_sharded else _bucket_starts(nodes, plan)) if reduces else []
    starts = set(blocks) | ({start for start, _ in buckets} if plan.dp_overlap else set())
    starts |= {i for i in range(1, len(nodes)) if nodes[i].region != nodes[i - 1].region}
    bounds = [*sorted(starts), len(nodes)]
    segments = _segments(graph, plan, nodes, bounds, blocks)
    receives = _crossing(graph, first) if first else ()
    sends = _crossing(graph, end)
    return Stage(
        index=index,
        segments=segments,
        receives=receives,
        sends=sends,
        gradients_in=tuple(name for name in sends if graph.trainable[name]),
        gradients_out=tuple(name for name in receives if graph.trainable[name]),
        buckets=tuple(
            Bucket(
                nodes=names,
                elements=_filled_up(sum(node.layer.num_parameters for node in nodes if node.name in names), plan),
                segment=max(i for i, bound in enumerate(bounds[:-1]) if bound <= start),
            )
            for start, names in buckets
        ),
    )


def _crossing(graph: LayerGraph, cut: int) -> tuple[str, ...]:
    """Return the tensors made before node ``cut`` and read at or after it, in the order they are made."""
    made = (INPUT, *(node.name for node in graph.nodes[:cut]))
    read = {name for node in graph.nodes[cut:] for name in node.inputs}
    return tuple(name for name in made if name in read)


def _block_starts(nodes: Sequence[Node]) -> list[int]:
    """Return the first node of each block; two blocks that share a tensor-parallel region count as one."""
    starts = [0]
    for index in range(1, len(nodes)):
        before, after = nodes[index - 1], nodes[index]
        if before.block != after.block and not (after.region and before.region == after.region):
            starts.append(index)
    return starts


def _segments(
    graph: LayerGraph, plan: Plan, nodes: tuple[Node, ...], bounds: list[int], blocks: list[int]
) -> tuple[Segment, ...]:
    """Return the segments between bounds, each with the block that it belongs to."""
    recomputed = [
        plan.recompute == "full" and _keeps_more_than_inputs(graph, nodes[a:b])
        for a, b in pairwise([*blocks, len(nodes)])
    ]
    units = [*(bisect(blocks, bound) - 1 for bound in bounds[:-1]), -1]
    return tuple(
        _segment(graph, nodes[a:b], unit, recomputed[unit], unit == following)
        for (a, b), (unit, following) in zip(pairwise(bounds), pairwise(units), strict=True)
    )


def _keeps_more_than_inputs(graph: LayerGraph, nodes: Sequence[Node]) -> bool:
    """Return whether recomputing a block saves anything; backward of the block of the loss follows at once."""
    made = {node.name for node in nodes}
    saved = {name for node in nodes if node.layer.saves_input for name in node.inputs if name in made}
    saved |= {node.name for node in nodes if node.layer.saves_output}
    extra = any(node.layer.extra_saved_bytes(graph.input_shapes(node), 1, 1) for node in nodes)
    return graph.loss not in nodes and (bool(saved) or extra)


def _segment(graph: LayerGraph, nodes: tuple[Node, ...], unit: int, recomputed: bool, goes_on: bool) -> Segment:
    inside = {node.name for node in nodes}
    inputs = tuple(dict.fromkeys(name for node in nodes for name in node.inputs if name not in inside))
    outputs = tuple(
        node.name
        for node in nodes
        if node is graph.loss or any(reader.name not in inside for reader in graph.consumers[node.name])
    )
    parallel = bool(nodes[0].region)
    return Segment(
        nodes=nodes,
        inputs=inputs,
        outputs=outputs,
        parallel=parallel,
        reduces_backward=parallel and any(graph.trainable[name] for name in inputs),
        unit=unit,
        recomputed=recomputed,
        reduces_again=parallel and recomputed and goes_on,
    )


def _filled_up(elements: int, plan: Plan) -> int:
    """Return the size of a bucket that its replicas can share evenly, if they do."""
    return math.ceil(elements / plan.dp) * plan.dp if plan.is_sharded else elements


def _block_buckets(nodes: Sequence[Node], blocks: list[int]) -> list[tuple[int, tuple[str, ...]]]:
    """Return (first node, names) of the parameters of each block in backward order."""
    buckets = []
    for first, end in reversed(list(pairwise([*blocks, len(nodes)]))):
        names = tuple(node.name for node in reversed(nodes[first:end]) if node.layer.parameters())
        if names:
            buckets.append((first, names))
    return buckets


def _bucket_starts(nodes: Iterable[Node], plan: Plan) -> list[tuple[int, tuple[str, ...]]]:
    """Return (first node, names) of each bucket in backward order.

    A bucket closes at the first node, going backward, at which it is full and a segment may begin: not in the middle
    of a tensor-parallel region.
    """
    nodes = list(nodes)
    buckets: list[tuple[int, tuple[str, ...]]] = []
    names: list[str] = []
    size = 0
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        if node.layer.parameters():
            names.append(node.name)
            size += node.layer.num_parameters * plan.itemsize
        splits_region = node.region and index > 0 and nodes[index - 1].region == node.region
        if names and (size >= plan.bucket_size and not splits_region):
            buckets.append((index, tuple(names)))
            names, size = [], 0
    if names:
        first = min(i for i, node in enumerate(nodes) if node.name in names)
        while first > 0 and nodes[first].region and nodes[first - 1].region == nodes[first].region:
            first -= 1
        buckets.append((first, tuple(names)))
    return buckets
