"""What of a micro-batch is alive when: bytes of activations that each instruction adds or frees.

A forward segment keeps what autograd saves and the tensors at its borders; the backward of the segment frees them and
leaves the gradients at its borders. Where backward is split, the input gradients (I) free what only they need, and what
the weight gradients need stays until W: the inputs of layers with weights, and the gradients of their outputs. The data
and the gradients of parameters are no activations. Tensors that share storage count once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.program.dependencies import Work
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
    changes = changes_of(program, pipeline_rank)
    held, found = 0.0, []
    for kind, stage, _, part in program.lists[pipeline_rank]:
        held += changes.get((kind, stage, part), 0.0)
        if STREAM_OF[kind] is Stream.COMPUTE:
            found.append(held)
    return found


def changes_of(program: Program, pipeline_rank: int) -> dict[Work, float]:
    """Return the bytes that each work adds; negative if it frees them. All micro-batches do the same."""
    changes: dict[Work, float] = {}
    for stages in _runs(program, pipeline_rank):
        for backward in (Kind.B, Kind.I):
            life, before = _Life(program), 0.0
            for work in _works(program, stages, backward):
                life.run(*work)
                after = life.total()
                changes[work] = after - before
                before = after
    return changes


def _runs(program: Program, pipeline_rank: int) -> list[tuple[Stage, ...]]:
    """Return the stages of a rank in runs that hand their borders to each other, so that these lie there once."""
    runs: list[tuple[Stage, ...]] = []
    for stage in program.stages_of(pipeline_rank):
        last = runs[-1][-1].index if runs else -1
        if runs and last + 1 == stage.index and program.hands_over(last, stage.index):
            runs[-1] += (stage,)
        else:
            runs.append((stage,))
    return runs


def _works(program: Program, stages: tuple[Stage, ...], backward: Kind) -> Iterator[Work]:
    """Yield the works of one micro-batch in the order of its data flow, with whole (B) or split (I) backwards."""
    yield (Kind.RECV_F, stages[0].index, -1)
    for stage in stages:
        yield from ((Kind.F, stage.index, part) for part in range(len(stage.segments)))
    yield (Kind.RECV_B, stages[-1].index, -1)
    for stage in reversed(stages):
        for part in reversed(range(len(stage.segments))):
            yield (backward, stage.index, part)
            if stage.segments[part].reduces_backward:
                yield (Kind.ALL_REDUCE_B, stage.index, part)
    yield (Kind.SEND_B, stages[0].index, -1)
    if backward is Kind.I:
        for stage in reversed(stages):
            yield from ((Kind.W, stage.index, part) for part in reversed(range(len(stage.segments))))


class _Life:
    """What one micro-batch holds on one rank.

    Attributes
    ----------
    holders
        Tensors by who keeps them: a segment, or a stage that has received them.
    gradients
        Of tensors at borders.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.holders: dict[tuple[int, int], Tensors] = {}
        self.gradients: Tensors = {}

    def total(self) -> float:
        """Return the bytes of everything, each storage once."""
        alive = dict(self.gradients)
        for tensors in self.holders.values():
            alive |= tensors
        return sum(alive.values())

    def run(self, kind: Kind, index: int, part: int) -> None:
        """Let one work change what is held."""
        program, stage = self.program, self.program.stages[index]
        match kind:
            case Kind.RECV_F:
                self.holders[index, part] = _tensors(program, stage.receives)
            case Kind.F:
                self.holders[index, part] = _activations(program, stage.segments[part])
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
        if not layer.parameters():
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
