"""A traced module as a model file: traced twice, on fake tensors, and each layer priced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from executor.tracing.draws import draws
from executor.tracing.export import export
from executor.tracing.functions import function_of
from executor.tracing.groups import Grouping
from executor.tracing.kinds import known
from executor.tracing.layers import TracedLayer, layers_of
from executor.tracing.lines import SAMPLES, operation, sample_shape
from executor.tracing.places import place
from executor.tracing.record import record
from executor.tracing.source import refuse
from simulator.model.graph import INPUT
from simulator.model.module import ModuleSource

Entry = dict[str, Any]


def document(module: nn.Module, source: ModuleSource) -> Entry:
    """Return the operations and layers of a module as plain data.

    Parameters
    ----------
    module
        Of fake tensors, if it could be built of them: nothing is computed.
    source
        What goes in.
    """
    return _Writer([layers_of(export(module, source, batch, torch.float32)) for batch in SAMPLES], source).keys()


class _Writer:
    """Writes the layers of two tracings that differ in the number of samples."""

    def __init__(self, traced: list[tuple[Grouping, list[TracedLayer]]], source: ModuleSource) -> None:
        self.groupings = [grouping for grouping, _ in traced]
        few, more = ([(layer.group.name, layer.inputs) for layer in layers] for _, layers in traced)
        if few != more:
            refuse(source.path, "traces to other layers for 2 samples than for 3", "do not branch on the batch size")
        self.pairs = list(zip(*(layers for _, layers in traced), strict=True))
        self.source = source
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: source.input_shape}
        self.operations: dict[str, Entry] = {}
        self._seen: dict[str, Entry] = {}

    def keys(self) -> Entry:
        """Return the keys of the file that are not the user's own."""
        layers = [self._entry(pair) for pair in self.pairs]
        return {"operations": self.operations, "layers": layers}

    def _entry(self, pair: tuple[TracedLayer, ...]) -> Entry:
        layer = pair[0]
        name, root = layer.group.name, layer.group.root

        def stop(message: str) -> None:
            refuse(place(root), f"{name} {message}", "plan the module without it")

        values = [grouping.values[each.group.root] for grouping, each in zip(self.groupings, pair, strict=True)]
        is_loss = self.source.loss == "module" and layer is self.pairs[-1][0]
        shape = [] if is_loss else sample_shape([value.shape for value in values], stop)
        self.shapes[name] = tuple(shape)
        inputs = [self.shapes[each] for each in layer.inputs]
        entry = known(self.groupings[0], layer, inputs, tuple(shape))
        if entry is not None:
            keys = entry.model_dump(exclude_defaults=True, exclude={"kind"})
            made = {"kind": getattr(entry, "kind", ""), **keys}
        else:
            made = {"kind": "traced", "operation": self._operation(pair, shape, stop)}
        return {"name": name, **made, "inputs": list(layer.inputs), "block": layer.group.block}

    def _operation(self, pair: tuple[TracedLayer, ...], shape: list[int], stop: Any) -> str:
        """Return the name of a layer's operation; equal layers have one."""
        layer, grouping = pair[0], self.groupings[0]
        code = " ".join((function_of(layer.group, grouping.exported.operators).code, *self._described(pair)))
        if code not in self._seen:
            records = [record(each, traced.group) for each, traced in zip(self.groupings, pair, strict=True)]
            made = operation(records, shape, stop)
            parameters = {name: list(grouping.values[node].shape) for name, node in layer.parameters.items()}
            if parameters:
                made["parameters"] = parameters
            if not grouping.is_trainable(layer.group.root):
                made["gradient"] = False
            if random := draws(layer.group):
                made["draws"] = random
            self._seen[code] = made
            self.operations[layer.group.name] = made
        return next(name for name, made in self.operations.items() if made is self._seen[code])

    def _described(self, pair: tuple[TracedLayer, ...]) -> list[str]:
        """Return all that the costs of a layer depend on beside its code."""
        said = [str(draws(pair[0].group)), *pair[0].parameters]
        for grouping, layer in zip(self.groupings, pair, strict=True):
            group = layer.group
            for node in (*group.reads, *group.parameters, *group.constants):
                value = grouping.values[node]
                said.append(f"{tuple(value.shape)}{value.stride()}{value.dtype}{grouping.is_trainable(node)}")
        return said


def numbers(data: Mapping[str, Any]) -> dict[str, int]:
    """Return how many layers a file has, and how many of them are traced."""
    traced = sum(layer["kind"] == "traced" for layer in data["layers"])
    return {"layers": len(data["layers"]), "traced": traced}
