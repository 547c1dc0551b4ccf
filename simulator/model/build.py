"""A validated model file becomes a layer graph; what does not fit together is reported with its place."""

from __future__ import annotations

import math

from simulator.errors import Problems
from simulator.inputs.fields import StrictModel
from simulator.inputs.presets import preset_path
from simulator.inputs.yaml_source import locator, read_document
from simulator.model import families
from simulator.model.graph import INPUT, LayerGraph, Node, order
from simulator.model.language import TransformerSchema
from simulator.model.layers import CrossEntropy, MeanSquaredError, Shape, ShapeError, count
from simulator.model.layers.base import LayerSpec
from simulator.model.read import validate_model
from simulator.model.schema import CnnSchema, LayersSchema, LinearRegressionSchema, MlpSchema
from simulator.model.transformer import build_transformer
from simulator.model.vision import ResnetSchema, VitSchema, resnet, vit

LARGEST_TENSOR = 2**50
"""Elements of one sample beyond which a size is a typing mistake (a petabyte an activation)."""


def build_model(spec: StrictModel, problems: Problems) -> LayerGraph | None:
    """Return the layer graph of a validated model file, or None after reporting why there is none."""
    match spec:
        case LinearRegressionSchema():
            graph: LayerGraph | None = families.linear_regression(spec.name, spec.in_features)
        case MlpSchema():
            graph = families.mlp(spec.name, spec.in_features, list(spec.hidden_sizes), spec.num_classes)
        case CnnSchema():
            graph = _cnn(spec, problems)
        case TransformerSchema() | VitSchema() | ResnetSchema():
            graph = _checked(spec, problems)
        case LayersSchema():
            graph = _layers(spec, problems)
        case _:
            raise AssertionError(type(spec))
    if graph and max(count(graph.shape(node.name)) for node in graph.nodes) > LARGEST_TENSOR:
        problems.add("model", "a layer's output has more than 2^50 elements a sample", "check the sizes")
        return None
    return graph


def preset_graph(name: str) -> LayerGraph:
    """Return the layer graph of a preset; raises InputError if there is none of that name."""
    document = read_document(str(preset_path("models", name)), "model")
    problems = Problems(locator([document]))
    spec = validate_model(document, problems)
    graph = build_model(spec, problems) if spec else None
    problems.raise_if_any()
    assert graph
    return graph


def _checked(spec: TransformerSchema | VitSchema | ResnetSchema, problems: Problems) -> LayerGraph | None:
    before = len(problems)
    spec.check(problems)
    if len(problems) > before:
        return None
    match spec:
        case VitSchema():
            return vit(spec)
        case ResnetSchema():
            return resnet(spec)
    return build_transformer(spec.name, spec.transformer())


def _cnn(spec: CnnSchema, problems: Problems) -> LayerGraph | None:
    pools = len(spec.channels)
    if spec.image_size >> pools == 0:
        problems.add(
            "model.image_size",
            f"{spec.image_size} halved {pools} times (one pool for each of {pools} channels) leaves no pixel",
            f"use image_size {2**pools} or more, or at most {max(1, int(math.log2(spec.image_size)))} channels",
        )
        return None
    return families.cnn(
        spec.name, spec.image_size, spec.in_channels, list(spec.channels), spec.hidden_size, spec.num_classes
    )


def _layers(spec: LayersSchema, problems: Problems) -> LayerGraph | None:
    entries = _wire(spec, problems)
    if entries is None:
        return None
    try:
        names = order({name: inputs for name, (_, _, inputs) in entries.items()})
    except ValueError as cycle:
        problems.add("model.layers", f"the layers form a cycle: {cycle}", "a layer may only read earlier tensors")
        return None
    shapes: dict[str, Shape] = {INPUT: tuple(spec.input.shape)}
    nodes = []
    for name in names:
        index, layer_spec, inputs = entries[name]
        given = tuple(shapes[tensor] for tensor in inputs)
        try:
            for suffix, layer in layer_spec.expand(given):
                shapes[f"{name}{suffix}"] = layer.output_shape(tuple(shapes[tensor] for tensor in inputs))
                nodes.append(Node(name=f"{name}{suffix}", layer=layer, inputs=inputs, block=name))
                inputs = (f"{name}{suffix}",)
        except ShapeError as error:
            where = ", ".join(f"{tensor} {list(shapes[tensor])}" for tensor in inputs)
            problems.add(f"model.layers.{index}", f"{name}: {error} (reads {where})", error.hint)
            return None
    return _with_loss(spec, nodes, problems)


def _wire(spec: LayersSchema, problems: Problems) -> dict[str, tuple[int, LayerSpec, tuple[str, ...]]] | None:
    """Return for each layer its index, spec and the tensors it reads."""
    entries: dict[str, tuple[int, LayerSpec, tuple[str, ...]]] = {}
    previous, sound = INPUT, True
    for index, layer in enumerate(spec.layers):
        name = layer.name or f"{layer.kind}{index}"
        if name in entries or name in (INPUT, "loss"):
            first = f"layers.{entries[name][0]}" if name in entries else "reserved"
            problems.add(f"model.layers.{index}.name", f"duplicate name {name!r} ({first})", "rename one of them")
            sound = False
        inputs = tuple(layer.inputs) if layer.inputs is not None else (previous,)
        wanted = 2 if layer.kind == "add" else 1
        if len(inputs) != wanted:
            problems.add(
                f"model.layers.{index}.inputs",
                f"{layer.kind} reads {wanted} tensors, {len(inputs)} given",
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


def _with_loss(spec: LayersSchema, nodes: list[Node], problems: Problems) -> LayerGraph | None:
    read = {tensor for node in nodes for tensor in node.inputs}
    ends = [node.name for node in nodes if node.name not in read]
    if len(ends) != 1:
        problems.add(
            "model.layers",
            f"{len(ends)} layers are read by nobody: {', '.join(ends)}; exactly one must feed the loss",
            "join them or remove one",
        )
        return None
    loss = CrossEntropy() if spec.loss == "cross_entropy" else MeanSquaredError()
    nodes.append(Node(name="loss", layer=loss, inputs=(ends[0],), block=ends[0]))
    try:
        return LayerGraph(name=spec.name, input_shape=tuple(spec.input.shape), nodes=tuple(nodes))
    except ShapeError as error:
        problems.add("model.loss", str(error), error.hint)
        return None
