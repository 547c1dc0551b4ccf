"""A list of layers becomes a layer graph: one that a person wrote, or that of an imported module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from simulator.errors import Problems
from simulator.model.graph import INPUT, LayerGraph, Node, order
from simulator.model.layers import CrossEntropy, Layer, MeanSquaredError, Operation, Shape, ShapeError, TracedSpec
from simulator.model.layers.base import LayerSpec
from simulator.model.module import ModuleSource, module_source
from simulator.model.schema import LayersSchema, ModuleSchema

Entries = dict[str, tuple[int, LayerSpec, tuple[str, ...]]]
"""For each layer its index, its entry and the tensors it reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """What a graph is made of."""

    name: str
    layers: Sequence[LayerSpec]
    input_shape: Shape
    loss: str
    operations: dict[str, Operation] = field(default_factory=dict)
    module: ModuleSource | None = None


def listed_layers(spec: LayersSchema, problems: Problems) -> LayerGraph | None:
    """Return the graph of an explicit list, or None after reporting why there is none."""
    return _graph(
        _List(name=spec.name, layers=spec.layers, input_shape=tuple(spec.input.shape), loss=spec.loss), problems
    )


def imported_module(spec: ModuleSchema, problems: Problems) -> LayerGraph | None:
    """Return the graph of an imported module, or None after reporting why there is none."""
    try:
        source = module_source(spec.module, spec.inputs, spec.target, spec.loss)
    except ValueError as error:
        problems.add("model.inputs", str(error))
        return None
    given = _List(
        name=spec.name,
        layers=spec.layers,
        input_shape=source.input_shape,
        loss=spec.loss,
        operations=spec.operations,
        module=source,
    )
    return _graph(given, problems)


def _graph(given: _List, problems: Problems) -> LayerGraph | None:
    entries = _wire(given, problems)
    if entries is None:
        return None
    try:
        names = order({name: inputs for name, (_, _, inputs) in entries.items()})
    except ValueError as cycle:
        problems.add("model.layers", f"the layers form a cycle: {cycle}", "a layer may only read earlier tensors")
        return None
    shapes: dict[str, Shape] = {INPUT: given.input_shape}
    nodes = []
    for name in names:
        index, entry, inputs = entries[name]
        try:
            for suffix, layer in _expanded(given, entry, tuple(shapes[tensor] for tensor in inputs), name == names[-1]):
                shapes[f"{name}{suffix}"] = layer.output_shape(tuple(shapes[tensor] for tensor in inputs))
                nodes.append(Node(name=f"{name}{suffix}", layer=layer, inputs=inputs, block=entry.block or name))
                inputs = (f"{name}{suffix}",)
        except ShapeError as error:
            where = ", ".join(f"{tensor} {list(shapes[tensor])}" for tensor in inputs)
            problems.add(f"model.layers.{index}", f"{name}: {error} (reads {where})", error.hint)
            return None
    return _with_loss(given, nodes, problems)


def _expanded(given: _List, entry: LayerSpec, inputs: tuple[Shape, ...], last: bool) -> tuple[tuple[str, Layer], ...]:
    """Return what an entry stands for; the last layer of a module with a loss of its own is that loss."""
    if not isinstance(entry, TracedSpec):
        return entry.expand(inputs)
    if entry.operation not in given.operations:
        raise ShapeError(f"there is no operation {entry.operation!r}", "import the module again")
    target = given.module.target if given.module and last else None
    path = given.module.path if given.module else ""
    return (("", entry.made_of(given.operations[entry.operation], path, target.shape if target else None)),)


def _wire(given: _List, problems: Problems) -> Entries | None:
    entries: Entries = {}
    previous, sound = INPUT, True
    for index, layer in enumerate(given.layers):
        kind = getattr(layer, "kind", "layer")
        name = layer.name or f"{kind}{index}"
        if name in entries or name in (INPUT, "loss"):
            first = f"layers.{entries[name][0]}" if name in entries else "reserved"
            problems.add(f"model.layers.{index}.name", f"duplicate name {name!r} ({first})", "rename one of them")
            sound = False
        inputs = tuple(layer.inputs) if layer.inputs is not None else (previous,)
        wanted = 2 if kind == "add" else 1
        if len(inputs) != wanted and not isinstance(layer, TracedSpec):
            problems.add(
                f"model.layers.{index}.inputs",
                f"{kind} reads {wanted} tensors, {len(inputs)} given",
                "name them: inputs: [a, b]" if wanted > 1 else "",
            )
            sound = False
        entries[name] = (index, layer, inputs)
        previous = name
    for index, _, inputs in entries.values():
        for unknown in sorted(set(inputs) - set(entries) - {INPUT}):
            known = ", ".join([INPUT, *entries][:12])
            problems.add(f"model.layers.{index}.inputs", f"no layer is called {unknown!r}", f"known: {known}")
            sound = False
    return entries if sound else None


def _with_loss(given: _List, nodes: list[Node], problems: Problems) -> LayerGraph | None:
    read = {tensor for node in nodes for tensor in node.inputs}
    ends = [node.name for node in nodes if node.name not in read]
    if len(ends) != 1:
        problems.add(
            "model.layers",
            f"{len(ends)} layers are read by nobody: {', '.join(ends)}; exactly one must feed the loss",
            "join them or remove one",
        )
        return None
    if given.loss != "module":
        loss = CrossEntropy() if given.loss == "cross_entropy" else MeanSquaredError()
        block = nodes[-1].block if given.module else ends[0]
        nodes.append(Node(name="loss", layer=loss, inputs=(ends[0],), block=block))
    tokens = given.input_shape[0] if given.module and given.module.is_integer and len(given.input_shape) == 1 else 0
    try:
        return LayerGraph(
            name=given.name,
            input_shape=given.input_shape,
            nodes=tuple(nodes),
            tokens_per_sample=tokens,
            module=given.module,
        )
    except ShapeError as error:
        problems.add("model.loss", str(error), error.hint)
        return None
