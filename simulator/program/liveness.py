"""What of a micro-batch is alive when: bytes of activations that each instruction adds or frees.

A forward segment keeps what autograd saves and the tensors at its borders; the backward of the segment frees them and
leaves the gradients at its borders. Where backward is split, the input gradients (I) free what only they need, and what
the weight gradients need stays until W: the inputs of layers with weights, and the gradients of their outputs. What is
recomputed keeps the inputs of its block until it runs forward again. The data and the gradients of parameters are no
activations. Tensors that share storage count once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.program.coded import Work
from simulator.program.instructions import STREAM_OF, Kind, Stream
from simulator.program.program import Program
from simulator.program.stage import Segment, Stage

Tensors = dict[str, float]
"""Bytes of each storage by the name of what lies in it."""


def held_after(program: Program, pipeline_rank: int) -> list[float]:
    """Return the bytes of activations on a rank after each instruction that computes, in the order of its list.

    The order of the list is that in which a host issues and allocates, so both interpreters hold the same at the same
    instruction, whatever their clocks say.
    """
    return program.keep(("held", pipeline_rank), lambda: _held_after(program, pipeline_rank))


def _held_after(program: Program, pipeline_rank: int) -> list[float]:
    held = accumulate(changes(program, pipeline_rank))
    kinds = (kind for kind, _, _, _ in program.lists[pipeline_rank])
    return [size for kind, size in zip(kinds, held, strict=True) if STREAM_OF[kind] is Stream.COMPUTE]


def changes(program: Program, pipeline_rank: int) -> Iterator[float]:
    """Yield the bytes that each instruction of a rank adds; negative if it frees them."""
    lives: dict[int, _Life] = {}
    unborn = _Life(program, {}, {})
    for kind, stage, microbatch, part in program.lists[pipeline_rank]:
        before = lives.get(microbatch, unborn)
        lives[microbatch] = after = before.after(kind, stage, part)
        yield after.total - before.total


class _Life:
    """What one micro-batch holds on one rank at some point of its way.

    Most micro-batches go the same way, so that each point of it is worked out once.

    Parameters
    ----------
    program
        Whose micro-batch it is.
    holders
        Tensors by who keeps them: a segment (stage and part), or a stage that has received them (part -1).
    gradients
        Of tensors at borders.
    """

    def __init__(self, program: Program, holders: dict[tuple[int, int], Tensors], gradients: Tensors) -> None:
        self.program = program
        self.holders = holders
        self.gradients = gradients
        self.total = 0.0
        self._following: dict[Work, _Life] = {}

    def after(self, kind: Kind, stage: int, part: int) -> _Life:
        """Return what is held after one more instruction."""
        work = (kind, stage, part)
        if work not in self._following:
            following = _Life(self.program, dict(self.holders), dict(self.gradients))
            following._run(kind, stage, part)
            # Stages that follow each other on a rank hand over their border, and segments theirs: it lies there once.
            alive = dict(following.gradients)
            for tensors in following.holders.values():
                alive |= tensors
            following.total = sum(alive.values())
            self._following[work] = following
        return self._following[work]

    def _run(self, kind: Kind, index: int, part: int) -> None:
        """Let one work change what is held."""
        program, stage = self.program, self.program.stages[index]
        match kind:
            case Kind.RECV_F:
                self.holders[index, part] = _tensors(program, stage.receives)
            case Kind.F if stage.segments[part].recomputed:
                self._forward_that_keeps_nothing(stage, part)
            case Kind.F:
                self.holders[index, part] = _activations(program, stage.segments[part])
            case Kind.R:
                self.holders[index, part] = self._made_again(stage, part)
            case Kind.RECV_B:
                self.gradients |= _gradients(program, stage.gradients_in)
            case Kind.SEND_B:
                self._drop(stage.gradients_out)
            case Kind.ALL_REDUCE_B:
                self._drop(stage.segments[part].inputs, "partial ")
                self._add(stage.segments[part].inputs)
            case Kind.W:
                del self.holders[index, part]
            case Kind.B | Kind.I:
                self._backward(kind, index, part)

    def _forward_that_keeps_nothing(self, stage: Stage, part: int) -> None:
        """Hold borders until the whole unit has run forward, then those that others read too."""
        unit = stage.unit_of(part)
        inner = {name for index in unit for name in stage.inner_outputs(index)} if part == unit[-1] else set()
        for index in range(unit[0], part + 1):
            segment = stage.segments[index]
            borders = {*segment.inputs, *segment.outputs} - inner
            self.holders[stage.index, index] = _tensors(self.program, borders)

    def _made_again(self, stage: Stage, part: int) -> Tensors:
        """Return what a second forward holds; what leaves the unit is a copy, for weights may wait for the first."""
        outputs = {*stage.segments[part].outputs} - {*stage.inner_outputs(part)}
        copies = {_storage(self.program.graph, name) for name in outputs}
        held = _activations(self.program, stage.segments[part])
        return {f"again {name}" if name in copies else name: size for name, size in held.items()}

    def _backward(self, kind: Kind, index: int, part: int) -> None:
        segment = self.program.stages[index].segments[part]
        self.holders[index, part] = _for_weights(self.program, segment) if kind is Kind.I else {}
        if part == 0:
            self.holders.pop((index, -1), None)
        self._drop(segment.outputs)
        self._add(segment.inputs, "partial " if segment.reduces_backward else "")

    def _add(self, names: Iterable[str], prefix: str = "") -> None:
        trainable = [name for name in names if self.program.graph.trainable[name]]
        self.gradients |= {prefix + key: size for key, size in _gradients(self.program, trainable).items()}

    def _drop(self, names: Iterable[str], prefix: str = "") -> None:
        for name in names:
            self.gradients.pop(f"{prefix}gradient {name}", None)


def _tensors(program: Program, names: Iterable[str]) -> Tensors:
    """Return tensors with their bytes; the data stands in memory before the step, and the loss is one number."""
    storages = {_storage(program.graph, name) for name in names} - {INPUT, program.graph.loss.name}
    return {name: program.tensor_bytes((name,)) for name in storages}


def _gradients(program: Program, names: Iterable[str]) -> Tensors:
    return {f"gradient {name}": program.tensor_bytes((name,)) for name in names}


def _activations(program: Program, segment: Segment) -> Tensors:
    """Return what a segment holds between its forward and its backward."""
    graph, plan = program.graph, program.plan
    names = {*segment.inputs, *segment.outputs}
    extra: Tensors = {}
    for node in segment.nodes:
        layer = node.layer
        names |= {*node.inputs} if layer.saves_input else set()
        names |= {node.name} if layer.saves_output else set()
        extra[f"in {node.name}"] = layer.extra_saved_bytes(
            graph.input_shapes(node), plan.microbatch_size, plan.itemsize
        )
    return _tensors(program, names) | extra


def _for_weights(program: Program, segment: Segment) -> Tensors:
    """Return what a segment holds between its input gradients and its weight gradients."""
    graph, plan = program.graph, program.plan
    inside = {node.name for node in segment.nodes}
    kept: Tensors = {}
    for node in segment.nodes:
        layer = node.layer
        if not layer.has_weights:
            continue
        if layer.saves_input:
            kept |= _tensors(program, node.inputs)
        kept |= _gradients(program, [_gradient_storage(graph, node, inside)])
        kept[f"in {node.name}"] = layer.extra_weight_bytes(
            graph.input_shapes(node), plan.microbatch_size, plan.itemsize
        )
    return kept


def _storage(graph: LayerGraph, name: str) -> str:
    """Return the tensor in whose storage another one lies: that of a view is its input's."""
    while name != INPUT and graph.by_name[name].layer.is_view:
        (name,) = graph.by_name[name].inputs
    return name


def _gradient_storage(graph: LayerGraph, node: Node, inside: set[str]) -> str:
    """Return the tensor whose gradient is handed through to a node's output as it is."""
    readers = graph.consumers[node.name]
    while len(readers) == 1 and readers[0].name in inside and readers[0].layer.passes_gradient:
        node = readers[0]
        readers = graph.consumers[node.name]
    return node.name
