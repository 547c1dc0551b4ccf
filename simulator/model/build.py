"""A validated model file becomes a layer graph; what does not fit together is reported with its place."""

from __future__ import annotations

import math

from simulator.errors import Problems
from simulator.inputs.fields import StrictModel
from simulator.inputs.presets import preset_path
from simulator.inputs.yaml_source import locator, read_document
from simulator.model import families
from simulator.model.graph import LayerGraph
from simulator.model.language import TransformerSchema
from simulator.model.layer_list import imported_module, listed_layers
from simulator.model.layers import count
from simulator.model.read import validate_model
from simulator.model.schema import CnnSchema, LayersSchema, LinearRegressionSchema, MlpSchema, ModuleSchema
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
            graph = listed_layers(spec, problems)
        case ModuleSchema():
            graph = imported_module(spec, problems)
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
