"""An imported module at work: built for real, and run layer by layer as the plan wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from executor.modules import put_off
from executor.modules.functions import FORWARD
from executor.modules.operations import PLAIN, Operations
from executor.tracing.export import Exported, export
from executor.tracing.functions import function_of
from executor.tracing.layers import TracedLayer, layers_of
from executor.tracing.source import build
from simulator.errors import ExecutionError
from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.model.layers import Traced
from simulator.model.module import ModuleSource
from simulator.plan.plan import Plan

SPLIT = ("linear", "conv2d", "embedding")
"""Kinds whose weights' gradient is put off as in our own models; that of others, with a graph of their own."""


class Imported:
    """The layers of a module, with its values.

    Parameters
    ----------
    graph
        As the model file says.
    plan
        How it is trained.
    dtype, device
        Of parameters and activations.

    Raises
    ------
    ExecutionError
        The plan cannot be run with somebody else's module, or the module is not what was imported any more.
    """

    def __init__(self, graph: LayerGraph, plan: Plan, dtype: torch.dtype, device: torch.device) -> None:
        assert graph.module
        self.source: ModuleSource = graph.module
        _check(graph, plan)
        module = build(self.source.path).to(dtype)
        self._exported: Exported = export(module, self.source, plan.microbatch_size, dtype)
        _, layers = layers_of(self._exported)
        self._layers = {layer.group.name: layer for layer in layers}
        self._device = device
        self._constants: dict[fx.Node, Tensor] = {}
        for node in graph.nodes:
            if node is graph.loss and self.source.target is None:
                continue
            if node.name not in self._layers or self._layers[node.name].inputs != node.inputs:
                raise ExecutionError(
                    f"{self.source.path} has changed since it was imported: {node.name} is not what it was; "
                    "run plancast model import again"
                )

    def has(self, node: Node) -> bool:
        """Return whether a layer is the module's."""
        return node.name in self._layers

    def value(self, node: Node, parameter: str) -> Tensor:
        """Return a parameter's first value."""
        placeholder = self._layers[node.name].parameters[parameter]
        return self._exported.module.get_parameter(self._exported.parameters[placeholder]).detach()

    def full_name(self, node: Node, parameter: str) -> str:
        """Return what the module calls a parameter."""
        return self._exported.parameters[self._layers[node.name].parameters[parameter]]

    def forward_of(self, node: Node) -> Callable[..., Tensor]:
        """Return the function that computes a layer, as ``executor.modules`` has them."""
        layer = self._layers[node.name]
        group = layer.group
        function = function_of(group, self._exported.operators, self._device)
        constants = [self._constant(each) for each in group.constants]
        names = {placeholder: name for name, placeholder in layer.parameters.items()}
        order = [names[each] for each in group.parameters]
        # Not with views beside it, and no look-up with a row that is never trained.
        is_plain = group.nodes == [group.root] and (node.layer.kind != "embedding" or len(group.root.args) == 2)
        splits_as_ours = is_plain and node.layer.kind in SPLIT

        def forward(ops: Operations, _: Any, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
            reads = self._reads(layer, inputs)
            weights = [parameters[name] for name in order]
            if ops is PLAIN or not weights:
                return function(*reads, *weights, *constants)
            if splits_as_ours:
                return FORWARD[node.layer.kind](ops, node.layer, parameters, *reads)
            return put_off.Whole.apply(ops, lambda *given: function(*given, *constants), len(reads), *reads, *weights)

        return forward

    def _reads(self, layer: TracedLayer, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        """Return what a group reads, in the shapes of the tracing; what follows the inputs is the target."""
        by_name = dict(zip(layer.inputs, inputs, strict=False))
        exported, found = self._exported, list[Tensor]()
        for node in layer.group.reads:
            if node is exported.target:
                found.append(inputs[-1])
            elif node in exported.inputs:
                found.append(self._input(exported.inputs.index(node), by_name[INPUT]))
            else:
                tensor = next(by_name[name] for name in layer.inputs if self._root(name) is node)
                found.append(tensor.view(exported.values[node].shape))
        return found

    def _root(self, name: str) -> fx.Node | None:
        return self._layers[name].group.root if name in self._layers else None

    def _input(self, place: int, given: Tensor) -> Tensor:
        """Return one of the module's inputs out of those that lie side by side."""
        if len(self.source.inputs) == 1:
            return given
        before = sum(each.size for each in self.source.inputs[:place])
        own = self.source.inputs[place]
        return given[:, before : before + own.size].unflatten(1, own.shape)

    def _constant(self, node: fx.Node) -> Tensor:
        """Return a value that is the same in every step, computed once; buffers are the module's own."""
        if node not in self._constants:
            if node in self._exported.constants:
                value = self._constants[node] = self._exported.constants[node]
                value.data = value.data.to(self._device)
            else:
                self._constants[node] = self._computed(node)
        return self._constants[node]

    @torch.no_grad()
    def _computed(self, node: fx.Node) -> Tensor:
        known: dict[fx.Node, Any] = {}

        def evaluate(each: fx.Node) -> Any:
            if each in self._exported.constants:
                return self._constant(each)
            if each not in known:
                arguments = fx.map_arg(each.args, evaluate)
                options = dict(fx.map_arg(each.kwargs, evaluate))
                if options.get("device") is not None:
                    options["device"] = self._device
                if each.op == "get_attr":
                    known[each] = getattr(self._exported.operators, str(each.target))
                else:
                    known[each] = each.target(*arguments, **options)  # type: ignore[operator]
            return known[each]

        return evaluate(node)


def _check(graph: LayerGraph, plan: Plan) -> None:
    """Refuse plans that somebody else's module cannot be run with."""
    assert graph.module
    for axis, size in (("tp", plan.tp), ("cp", plan.cp), ("ep", plan.ep)):
        if size > 1:
            message = f"{graph.module.path} runs whole layers, and {axis}({size}) cuts them"
            raise ExecutionError(f"{message}; set {axis} 1, or simulate the plan")
    random = (node for node in graph.nodes if isinstance(node.layer, Traced) and node.layer.does.draws)
    for node in random:
        assert isinstance(node.layer, Traced)
        raise ExecutionError(
            f"{node.layer.does.draws}: {node.name} draws random numbers, which no two plans would draw alike; "
            "build the module with dropout 0"
        )
