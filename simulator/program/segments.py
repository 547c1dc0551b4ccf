"""Stages and segments of a cut graph, and the data flow between them."""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import pairwise

from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.model.layers import Add, Bias, Dropout, Exchange, Layer, OwnHeads
from simulator.model.layers.exchange import NOTHING
from simulator.model.layers.vocabulary import Positions
from simulator.plan.plan import Plan
from simulator.program.buckets import block_buckets, filled_buckets, filled_up
from simulator.program.instructions import EXCHANGES, Kind
from simulator.program.stage import BORDER, Bucket, Segment, Stage
from simulator.program.units import Unit, recomputed_units

SUMS_GRADIENTS = ("all_reduce", "reduce_scatter")
"""Backward operations whose ranks each have a summand."""


def build_stages(graph: LayerGraph, plan: Plan, cuts: tuple[int, ...], pipelines: int = 1) -> tuple[Stage, ...]:
    """Return the stages of a cut graph, once for each pipeline.

    Parameters
    ----------
    graph
        The graph of one rank.
    plan
        Says how gradients are bucketed.
    cuts
        Index of the first node of each stage.
    pipelines
        Replicas of the stages on the same ranks; then gradients are reduced even without data parallelism.
    """
    ends = [*cuts[1:], len(graph.nodes)]
    sizes = {"dp": plan.replicas, "dp_expert": plan.expert_replicas}
    axes = tuple(axis for axis, size in sizes.items() if size * pipelines > 1 or plan.updates_on_host)
    stages = [_stage(graph, plan, index, *span, axes) for index, span in enumerate(zip(cuts, ends, strict=True))]
    return tuple(
        replace(stage, index=stage.index + pipeline * len(stages)) for pipeline in range(pipelines) for stage in stages
    )


def _stage(graph: LayerGraph, plan: Plan, index: int, first: int, end: int, axes: tuple[str, ...]) -> Stage:
    nodes = graph.nodes[first:end]
    blocks = _block_starts(nodes) if plan.recompute == "full" or plan.is_sharded else [0]
    units = recomputed_units(graph, plan, nodes, blocks)
    buckets = block_buckets(nodes, plan, blocks, axes) if plan.is_sharded else filled_buckets(nodes, plan, axes)
    starts = {unit.start for unit in units}
    starts |= {bucket.start for bucket in buckets} if plan.dp_overlap or plan.reduces_each else set()
    starts |= _behind_gathered(graph, nodes)
    summed = _summed_backward(nodes) if plan.tp_overlap else frozenset()
    starts |= _behind(graph, nodes, summed)
    for place, node in enumerate(nodes):
        starts |= {place, place + 1} if isinstance(node.layer, Exchange) else set()
    bounds = [*sorted(starts - {len(nodes)}), len(nodes)]
    receives = _crossing(graph, first) if first else ()
    sends = _crossing(graph, end)
    gradients_out = tuple(name for name in receives if graph.trainable[name])
    segments = _segments(graph, nodes, bounds, units)
    flow = _Flow(graph, segments, receives, sends)
    parameters = {node.name: node.layer.num_parameters for node in nodes}
    return Stage(
        index=index,
        segments=tuple(flow.joined(part) for part in range(len(segments))),
        receives=receives,
        sends=sends,
        gradients_in=tuple(name for name in sends if graph.trainable[name]),
        gradients_out=gradients_out,
        sent_by=flow.makers(sends),
        returned_by=flow.takers(gradients_out),
        buckets=tuple(
            Bucket(
                nodes=each.names,
                elements=filled_up(sum(parameters[name] for name in each.names), plan, each.axis),
                segment=next(i for i, end in enumerate(bounds[1:]) if end > each.start and not segments[i].exchange),
                axis=each.axis,
            )
            for each in buckets
        ),
        weights_beside=_weights_beside(segments, summed),
    )


def _crossing(graph: LayerGraph, cut: int) -> tuple[str, ...]:
    """Return the tensors made before node ``cut`` and read at or after it, in the order they are made."""
    made = (INPUT, *(node.name for node in graph.nodes[:cut]))
    read = {name for node in graph.nodes[cut:] for name in node.inputs}
    return tuple(name for name in made if name in read)


def _block_starts(nodes: Sequence[Node]) -> list[int]:
    """Return the first node of each block."""
    return [0, *(index for index in range(1, len(nodes)) if nodes[index - 1].block != nodes[index].block)]


def _segments(graph: LayerGraph, nodes: tuple[Node, ...], bounds: list[int], units: list[Unit]) -> list[Segment]:
    """Return the segments between bounds, each with the unit that it belongs to."""
    starts = [unit.start for unit in units]
    numbers = [bisect(starts, bound) - 1 for bound in bounds[:-1]]
    return [
        replace(_segment(graph, nodes[a:b], number, units[number].recomputed), block=units[number].block)
        for (a, b), number in zip(pairwise(bounds), numbers, strict=True)
    ]


def _segment(graph: LayerGraph, nodes: tuple[Node, ...], unit: int, recomputed: bool) -> Segment:
    inside = {node.name for node in nodes}
    forward, backward, again = Kind.F, Kind.B, Kind.R
    layer = nodes[0].layer
    if isinstance(layer, Exchange):
        forward, backward, again = EXCHANGES[layer.axis]
    gives = not isinstance(layer, Exchange) or (layer.backward != NOTHING and graph.needs_input_grad(nodes[0]))
    runs = not isinstance(layer, Exchange) or layer.forward != NOTHING
    return Segment(
        nodes=nodes,
        inputs=tuple(dict.fromkeys(name for node in nodes for name in node.inputs if name not in inside)),
        outputs=tuple(
            node.name
            for node in nodes
            if node is graph.loss or any(reader.name not in inside for reader in graph.consumers[node.name])
        ),
        forward=forward if runs else None,
        backward=backward if gives else None,
        again=again if runs and (recomputed or _is_made_again(layer)) else None,
        unit=unit,
        recomputed=recomputed,
    )


def _is_made_again(layer: Layer) -> bool:
    return isinstance(layer, Exchange) and layer.made_again


def _behind_gathered(graph: LayerGraph, nodes: Sequence[Node]) -> set[int]:
    """Return where segments end so that what is gathered again travels while the rest of a region runs backward.

    Megatron's LinearWithGradAccumulationAndAsyncCommunication gathers beside the product of the input gradient; here
    it is gathered beside what runs backward before that product. Only where the border is a tensor that is kept anyway.
    """
    return _behind(graph, nodes, {node.name for node in nodes if _is_made_again(node.layer)})


def _behind(graph: LayerGraph, nodes: Sequence[Node], names: Set[str]) -> set[int]:
    """Return where segments end behind the readers of some tensors, unless that border would have to be kept."""
    return {
        place + 1
        for place, node in enumerate(nodes)
        if not names.isdisjoint(node.inputs) and all(reader.layer.saves_input for reader in graph.consumers[node.name])
    }


def _summed_backward(nodes: Iterable[Node]) -> frozenset[str]:
    """Return the exchanges that sum gradients over tensor-parallel ranks: of what column-parallel layers read, most."""
    exchanges = ((node.name, node.layer) for node in nodes if isinstance(node.layer, Exchange))
    return frozenset(name for name, each in exchanges if each.axis == "tp" and each.backward in SUMS_GRADIENTS)


def _weights_beside(segments: Sequence[Segment], summed: Set[str]) -> dict[int, int]:
    """Return for each of those exchanges the segment whose weight gradients are computed meanwhile.

    It is the first that reads what is exchanged, whose input gradients are the last part of the sum. Of several sums
    that wait for it, it follows the last.
    """
    found: dict[int, int] = {}
    for part, segment in enumerate(segments):
        name = segment.nodes[0].name
        reader = next((place for place, each in enumerate(segments) if name in each.inputs and not each.exchange), None)
        if name not in summed or not segment.backward or reader is None or reader in found.values():
            continue
        if any(node.layer.has_weights for node in segments[reader].nodes):
            found[part] = reader
    return found


class _Flow:
    """The data flow between the segments of a stage, through exchanges that leave a tensor or a gradient as it is.

    Attributes
    ----------
    maker
        For each tensor the segment that makes it.
    readers
        For each tensor the segments that read it.
    """

    def __init__(
        self, graph: LayerGraph, segments: list[Segment], receives: tuple[str, ...], sends: tuple[str, ...]
    ) -> None:
        self.graph = graph
        self.segments = segments
        self.sends = {*sends}
        self.readers: dict[str, list[int]] = defaultdict(list)
        for part, segment in enumerate(segments):
            for name in segment.inputs:
                self.readers[name].append(part)
        self.maker = dict.fromkeys((graph.values[name] for name in receives), BORDER)
        self.maker |= {node.name: part for part, segment in enumerate(segments) for node in segment.nodes}
        names = {*receives, *self.maker, INPUT}
        self._values, self._gradients, self._storages = (
            _grouped(names, origins) for origins in (graph.values, graph.gradients, graph.storages)
        )
        self._ends: dict[int | None, list[int]] = defaultdict(list)
        for part in range(len(segments)):
            self._ends[self._ends_with(part)].append(part)

    def joined(self, part: int) -> Segment:
        """Return a segment with its place in the flow."""
        segment = self.segments[part]
        segment = replace(segment, again=segment.again if self._is_read_again(segment) else None)
        return replace(
            segment,
            makers=self.makers(segment.inputs),
            takers=self.takers(name for name in segment.outputs if self.graph.trainable[name]),
            inner=tuple(name for name in segment.outputs if self._is_inner(name, segment.unit)),
            passing=self._is_passing(segment),
            consumed=self._consumed(segment),
            ends=tuple(self._ends[part]),
        )

    def makers(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the segments whose forward makes some tensors; the data stand there from the beginning."""
        values = (self.graph.values[name] for name in names)
        return tuple(sorted({self.maker[value] for value in values if value in self.maker}))

    def takers(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the segments whose backward makes the gradients of some tensors."""
        same = [name for source in {self.graph.gradients[name] for name in names} for name in self._gradients[source]]
        found = {part for part in self._reading(same) if self.segments[part].backward}
        return tuple(sorted(found | ({BORDER} if self.sends.intersection(same) else set())))

    def _reading(self, names: Iterable[str]) -> set[int]:
        return {part for name in names for part in self.readers[name]}

    def _is_read_again(self, segment: Segment) -> bool:
        """Return whether a segment is needed when its unit runs again: an exchange only for the rest of the unit.

        One that runs again by itself is let go of meanwhile, so nothing else may read it; backward of exchanges reads
        nothing.
        """
        if not segment.exchange:
            return True
        same = (name for own in segment.outputs for name in self._values[self.graph.values[own]])
        readers = [self.segments[part] for part in self._reading(same)]
        inside = [each.unit == segment.unit for each in readers]
        if segment.recomputed:
            return any(inside)
        return bool(readers) and all(inside) and not any(each.exchange for each in readers)

    def _is_inner(self, name: str, unit: int) -> bool:
        """Return whether only a unit reads what lies where a tensor does."""
        same = self._storages[self.graph.storages[name]]
        outside = any(self.segments[part].unit != unit for part in self._reading(same))
        return not outside and not self.sends.intersection(same)

    def _is_passing(self, segment: Segment) -> bool:
        """Return whether only sums, dropout and copies read what an exchange makes; their backward does not."""
        if not segment.exchange or segment.exchange.is_view or segment.recomputed or segment.is_made_again:
            return False
        name = segment.nodes[0].name
        sums = all(
            isinstance(reader.layer, Add | Bias | Dropout | OwnHeads | Positions)
            for reader in self.graph.consumers[name]
        )
        return sums and bool(self.readers[name]) and self._is_inner(name, segment.unit)

    def _consumed(self, segment: Segment) -> tuple[str, ...]:
        """Return what an exchange reads alone and once, if it does not stay where it is."""
        if not segment.exchange or segment.exchange.is_view or segment.is_made_again:
            return ()
        (name,) = segment.nodes[0].inputs
        alone = len(self.graph.consumers[name]) == 1 and self.graph.storages[name] == name
        return (name,) if alone and self.maker.get(name, BORDER) != BORDER else ()

    def _ends_with(self, part: int) -> int | None:
        """Return the segment after whose backward nobody reads another's outputs; None if only the stage's end does."""
        segment = self.segments[part]
        if not segment.exchange:
            return part
        storage = self.graph.storages[segment.nodes[0].name]
        if segment.exchange.is_view:
            maker = self.maker.get(storage, BORDER)
            return None if maker == BORDER else self._ends_with(maker)
        computing = (other for other in self._reading(self._storages[storage]) if not self.segments[other].exchange)
        return min(computing, default=part if segment.backward else None)


def _grouped(names: Iterable[str], origins: Mapping[str, str]) -> dict[str, list[str]]:
    """Return some tensors by their origin."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[origins[name]].append(name)
    return groups
