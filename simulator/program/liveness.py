"""What of a micro-batch is alive when: bytes of activations that each instruction adds or frees.

A forward segment keeps what autograd saves and the tensors at its borders; the backward of the segment frees them and
leaves the gradients at its borders. Where backward is split, the input gradients (I) free what only they need, and what
the weight gradients need stays until W: the inputs of layers with weights, and the gradients of their outputs. What is
recomputed keeps the inputs of its block until it runs forward again. The data and the gradients of parameters are no
activations. Tensors that share storage count once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.program.coded import STREAMS, Work
from simulator.program.instructions import EXCHANGES_B, EXCHANGES_F, EXCHANGES_R, Kind, Stream
from simulator.program.keeping import cast_bytes, casts, kept_bytes, saved_inputs
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


def weight_share(program: Program) -> float:
    """Return how much of the most that a micro-batch holds waits for its weight gradients, where that is most.

    Parameters
    ----------
    program
        Of one micro-batch whose backward is split.
    """
    shares = []
    for rank, instructions in enumerate(program.lists):
        held = held_after_each(program, rank)
        split = next(index for index, each in enumerate(instructions) if each.kind is Kind.W)
        shares.append(held[split - 1] / max(*held, 1.0))
    return max(shares)


def _held_after(program: Program, pipeline_rank: int) -> list[float]:
    computes = program.coded(pipeline_rank).streams() == STREAMS.index(Stream.COMPUTE)
    held: list[float] = np.array(held_after_each(program, pipeline_rank))[computes].tolist()
    return held


def held_after_each(program: Program, pipeline_rank: int) -> list[float]:
    """Return the bytes of activations on a rank after each instruction, also those that exchange."""
    return program.keep(("held, each", pipeline_rank), lambda: np.cumsum(changes(program, pipeline_rank)).tolist())


def changes(program: Program, pipeline_rank: int) -> NDArray[np.float64]:
    """Return the bytes that each instruction of a rank adds; negative if it frees them."""
    numbers = program.coded(pipeline_rank)
    added = np.zeros(len(numbers.codes))
    known: dict[bytes, list[float]] = {}
    order = np.argsort(numbers.microbatches, kind="stable")
    ends = np.flatnonzero(np.diff(numbers.microbatches[order])) + 1
    for rows in np.split(order, ends):
        # Most micro-batches go the same way.
        way = numbers.codes[rows]
        if way.tobytes() not in known:
            known[way.tobytes()] = _totals(program, pipeline_rank, [numbers.works[code] for code in way.tolist()])
        added[rows] = np.diff(known[way.tobytes()], prepend=0.0)
    return added


def _totals(program: Program, rank: int, works: Iterable[Work]) -> list[float]:
    """Return the bytes that a micro-batch holds after each work."""
    life, totals = _Life(program, rank), []
    for work in works:
        life.run(*work)
        totals.append(life.total)
    return totals


class _Life:
    """What one micro-batch holds on one rank.

    Parameters
    ----------
    program, rank
        Whose micro-batch it is, and on which pipeline rank.

    Attributes
    ----------
    holders
        Tensors by who keeps them: a segment (stage and part), or a stage that has received them (part -1).
    gradients
        Of tensors at borders.
    """

    def __init__(self, program: Program, rank: int) -> None:
        self.program = program
        self.rank = rank
        self.holders: dict[tuple[int, int], Tensors] = {}
        self.gradients: Tensors = {}

    @property
    def total(self) -> float:
        """Bytes that are held."""
        # Stages that follow each other on a rank hand over their border, and segments theirs: it lies there once.
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
                self._forward(stage, part)
            case Kind.R:
                self.holders[index, part] = _made_again(program, stage.segments[part])
            case Kind.RECV_B:
                self.gradients |= _gradients(program, stage.gradients_in)
            case Kind.SEND_B:
                self._drop(stage.gradients_out)
            case Kind.W:
                del self.holders[index, part]
            case Kind.B | Kind.I:
                self.holders[index, part] = _for_weights(program, stage.segments[part]) if kind is Kind.I else {}
                self._backward(stage, part)
            case _ if kind in EXCHANGES_F or kind in EXCHANGES_R:
                self._exchange(stage, part, keeps=kind in EXCHANGES_R)
            case _ if kind in EXCHANGES_B:
                self._backward(stage, part)

    def _forward(self, stage: Stage, part: int) -> None:
        """Keep what backward reads, or the borders alone until the unit has run forward."""
        segment = stage.segments[part]
        if segment.recomputed:
            self.holders[stage.index, part] = _tensors(self.program, (*segment.inputs, *segment.outputs))
        else:
            self.holders[stage.index, part] = _activations(self.program, segment)
            self._shrink(stage, segment)
        self._forget(stage, part)

    def _shrink(self, stage: Stage, segment: Segment) -> None:
        """Keep of what was made elsewhere in the stage as much as the framework does once it has been read."""
        graph, kept = self.program.graph, kept_bytes(self.program)
        if not kept:
            return
        read = {graph.storages[name] for name in segment.inputs}
        read |= {graph.storages[name] for maker in segment.makers for name in _gathered_from(stage, maker)}
        for key, held in self.holders.items():
            if key[0] == stage.index and read & {*held} & {*kept}:
                self.holders[key] = {name: kept[name] if name in read & {*kept} else held[name] for name in held}

    def _exchange(self, stage: Stage, part: int, keeps: bool) -> None:
        """Hold what is made; of what is read, only what the layer that made it has saved."""
        segment = stage.segments[part]
        if segment.exchange and not segment.exchange.is_view:
            self.holders[stage.index, part] = _tensors(self.program, segment.outputs)
        for maker in segment.makers if segment.consumed else ():
            its, held = stage.segments[maker], self.holders[stage.index, maker]
            saved = _saved(self.program, its) if keeps or not its.recomputed else {}
            gone = {*segment.consumed} - {*saved}
            self.holders[stage.index, maker] = {name: size for name, size in held.items() if name not in gone}
        gone = {name for name in segment.outputs if self.program.leaves(stage.index, name, self.rank)}
        if gone:
            # What is shared with another rank's stage is of no use to this one; a sum lies where it was made.
            for index in (part, *segment.makers):
                held = self.holders.get((stage.index, index), {})
                storages = {self.program.graph.storages[name] for name in gone}
                self.holders[stage.index, index] = {name: size for name, size in held.items() if name not in storages}
        if not keeps:
            self._forget(stage, part)

    def _forget(self, stage: Stage, part: int) -> None:
        """Let go of what only a unit read, where its forward has ended that keeps nothing."""
        gone = {self.program.graph.storages[name] for name in stage.drops[part]}
        for index in stage.unit_of(part) if gone else ():
            held = self.holders.get((stage.index, index), {})
            self.holders[stage.index, index] = {name: size for name, size in held.items() if name not in gone}

    def _backward(self, stage: Stage, part: int) -> None:
        """Let go of what is not read any more, and change the gradients of the outputs for those of the inputs."""
        segment = stage.segments[part]
        for index in segment.ends:
            if stage.segments[index].exchange:
                self.holders.pop((stage.index, index), None)
        if part == stage.computing[0]:
            gone = [key for key in self.holders if key[0] == stage.index and key[1] not in stage.computing]
            for key in gone:
                del self.holders[key]
        self._drop(segment.outputs)
        trainable = [
            name
            for name in segment.inputs
            if self.program.graph.trainable[name] and not self.program.leaves(stage.index, name, self.rank)
        ]
        self.gradients |= _gradients(self.program, trainable)

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            self.gradients.pop(f"gradient {self.program.graph.gradients[name]}", None)


def _tensors(program: Program, names: Iterable[str]) -> Tensors:
    """Return tensors with their bytes; the data stands in memory before the step, and the loss is one number."""
    graph = program.graph
    storages = {graph.storages[name] for name in names} - {INPUT, graph.loss.name}
    return {name: program.tensor_bytes((name,)) for name in storages if not graph.by_name[name].layer.transient}


def _gradients(program: Program, names: Iterable[str]) -> Tensors:
    return {f"gradient {program.graph.gradients[name]}": program.tensor_bytes((name,)) for name in names}


def _activations(program: Program, segment: Segment) -> Tensors:
    """Return what a segment holds between its forward and its backward."""
    graph, plan = program.graph, program.plan
    extra = {
        f"in {node.name}": node.layer.extra_saved_bytes(graph.input_shapes(node), plan.microbatch_size, plan.itemsize)
        for node in segment.nodes
    }
    kept = kept_bytes(program)
    inputs = {name: kept.get(name, size) for name, size in _tensors(program, segment.inputs).items()}
    return inputs | _tensors(program, segment.outputs) | _saved(program, segment) | extra


def _saved(program: Program, segment: Segment) -> Tensors:
    """Return the tensors that the layers of a segment save."""
    inputs = [name for node in segment.nodes for name in saved_inputs(program, node)]
    whole = _tensors(program, [*inputs, *(node.name for node in segment.nodes if node.layer.saves_output)])
    return whole | _casts(program, segment.nodes)


def _casts(program: Program, nodes: Iterable[Node]) -> Tensors:
    """Return what layers keep of inputs that they have cast: in place of these, or beside what others keep whole."""
    kept, found = kept_bytes(program), {}
    for node in nodes:
        if casts(program, node):
            name = program.graph.storages[node.inputs[0]]
            found[name if name in kept else f"cast {name}"] = cast_bytes(program, name)
    return found


def _gathered_from(stage: Stage, maker: int) -> tuple[str, ...]:
    """Return what an exchange reads that is made again for backward."""
    its = stage.segments[maker] if maker >= 0 else None
    return its.inputs if its and its.exchange and its.is_made_again else ()


def _made_again(program: Program, segment: Segment) -> Tensors:
    """Return what a second forward holds; what leaves the unit is a copy, for weights may wait for the first."""
    copies = {program.graph.storages[name] for name in {*segment.outputs} - {*segment.inner}}
    held = _activations(program, segment)
    return {f"again {name}" if name in copies else name: size for name, size in held.items()}


def _for_weights(program: Program, segment: Segment) -> Tensors:
    """Return what a segment holds between its input gradients and its weight gradients."""
    graph, plan = program.graph, program.plan
    inside = {node.name for node in segment.nodes}
    kept: Tensors = {}
    for node in segment.nodes:
        layer = node.layer
        if not layer.has_weights:
            continue
        needed = [name for position, name in enumerate(node.inputs) if layer.saves_for_weights(position)]
        kept |= _casts(program, [node]) if casts(program, node) else _tensors(program, needed)
        kept |= _gradients(program, [_gradient_storage(graph, node, inside)])
        kept[f"in {node.name}"] = layer.extra_weight_bytes(
            graph.input_shapes(node), plan.microbatch_size, plan.itemsize
        )
    return kept


def _gradient_storage(graph: LayerGraph, node: Node, inside: set[str]) -> str:
    """Return the tensor whose gradient is handed through to a node's output as it is."""
    readers = graph.consumers[node.name]
    while len(readers) == 1 and readers[0].name in inside and readers[0].layer.passes_gradient:
        node = readers[0]
        readers = graph.consumers[node.name]
    return node.name
