"""A module as torch exports it: one graph of operators for one micro-batch, with its values as fake tensors."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._guards import detect_fake_mode
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.export.graph_signature import InputKind

from executor.tracing.rewrites import without_changes_in_place
from executor.tracing.source import refuse, told
from simulator.model.module import ModuleSource, ModuleTensor

HINT = "branch on Python values instead of tensors, or plan the part without it"


@dataclass(frozen=True, slots=True)
class Exported:
    """A traced module.

    Parameters
    ----------
    operators
        In running order; placeholders first.
    module
        The module that was traced.
    parameters, constants
        Placeholders of trainable parameters by name of the first place where a parameter stands, and of everything
        else that the module holds: buffers, frozen parameters, tensors made beside them.
    inputs, target
        Placeholders of the inputs in the order of the source, and of the target of a module's own loss.
    output
        The value that goes into the loss, or the loss.
    values
        Every value as a fake tensor; those of views share storage.
    mode
        That they are fake in.
    """

    operators: fx.GraphModule
    module: nn.Module
    parameters: Mapping[fx.Node, str]
    constants: Mapping[fx.Node, Tensor]
    inputs: tuple[fx.Node, ...]
    target: fx.Node | None
    output: fx.Node
    values: Mapping[fx.Node, Any]
    mode: FakeTensorMode


def export(module: nn.Module, source: ModuleSource, batch: int, dtype: torch.dtype) -> Exported:
    """Trace a module for ``batch`` samples.

    Parameters
    ----------
    module
        Real, or made of fake tensors.
    source
        Says what goes in and what becomes of the output.
    batch
        Samples; Python code of the module may depend on it.
    dtype
        Of real inputs.

    Raises
    ------
    InputError
        The module cannot be traced; names the line in it.
    """
    given = (*source.inputs, *((source.target,) if source.target else ()))
    mode = detect_fake_mode(tuple(module.parameters()))
    made = [_empty(each, batch, dtype, mode) for each in given]
    positional = tuple(value for each, value in zip(given, made, strict=True) if not each.name)
    keywords = {each.name: value for each, value in zip(given, made, strict=True) if each.name}
    with told(source.path, "cannot be traced:", HINT):
        program = torch.export.export(module, positional, keywords, strict=False)
    graph = program.graph_module.graph
    parameters, constants, users = _placeholders(program, module)
    others = (node for node in users if node.name not in keywords)
    by_name = {node.name: node for node in users}
    nodes = [by_name[each.name] if each.name else next(others) for each in given]
    output = _output(program, source)
    known = dict(zip(nodes, made, strict=True)) | dict(constants)
    known |= {node: module.get_parameter(name) for node, name in parameters.items()}
    mode = mode or FakeTensorMode()
    values = interpreted(program.graph_module, known, mode)
    if replaced := without_changes_in_place(graph, values, constants):
        output = replaced.get(output, output)
        values = interpreted(program.graph_module, known, mode)
    target = nodes[-1] if source.target else None
    inputs = tuple(nodes[: len(source.inputs)])
    return Exported(program.graph_module, module, parameters, constants, inputs, target, output, values, mode)


def _empty(tensor: ModuleTensor, batch: int, dtype: torch.dtype, mode: FakeTensorMode | None) -> Tensor:
    with mode or nullcontext():
        return torch.zeros((batch, *tensor.shape), dtype=torch.int64 if tensor.below else dtype)


def _placeholders(
    program: torch.export.ExportedProgram, module: nn.Module
) -> tuple[dict[fx.Node, str], dict[fx.Node, Tensor], list[fx.Node]]:
    """Return placeholders of trainable parameters by name, of constants by value, and of what the user gives."""
    first: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        first.setdefault(id(parameter), name)
    nodes = {node.name: node for node in program.graph_module.graph.nodes if node.op == "placeholder"}
    parameters, constants, users = dict[fx.Node, str](), dict[fx.Node, Tensor](), list[fx.Node]()
    for spec in program.graph_signature.input_specs:
        node = nodes[spec.arg.name]
        match spec.kind:
            case InputKind.PARAMETER if (parameter := module.get_parameter(str(spec.target))).requires_grad:
                parameters[node] = first[id(parameter)]
            case InputKind.PARAMETER:
                constants[node] = module.get_parameter(str(spec.target)).detach()
            case InputKind.BUFFER:
                constants[node] = module.get_buffer(str(spec.target))
            case InputKind.CONSTANT_TENSOR:
                constants[node] = program.constants[str(spec.target)]
            case InputKind.USER_INPUT:
                users.append(node)
            case _:
                refuse(str(spec.target), "is neither parameter, buffer nor tensor", "pass it as an input")
    return parameters, constants, users


def _output(program: torch.export.ExportedProgram, source: ModuleSource) -> fx.Node:
    """Return the first output that can be the prediction: real, with an axis beside the batch; or the scalar loss."""
    own = source.loss == "module"
    (end,) = (node for node in program.graph_module.graph.nodes if node.op == "output")
    for node in end.all_input_nodes:
        value = node.meta["val"]
        if isinstance(value, Tensor) and value.is_floating_point() and (value.dim() == 0 if own else value.dim() > 1):
            return node
    wanted = "a loss (one real number)" if own else "a prediction (real numbers, batch first, with another axis)"
    hint = "return it, or use --loss cross_entropy or mse" if own else "return it, or use --loss module with --target"
    refuse(source.path, f"forward returns nothing that is {wanted}", hint)


def interpreted(module: fx.GraphModule, known: Mapping[fx.Node, Tensor], mode: FakeTensorMode) -> dict[fx.Node, Any]:
    """Return every value as a fake tensor, given those of the placeholders."""
    values: dict[fx.Node, Any] = {}

    class Keeping(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            values[node] = known_as(node) if node in known else super().run_node(node)
            return values[node]

    def known_as(node: fx.Node) -> Tensor:
        value = known[node]
        return value if isinstance(value, FakeTensor) else mode.from_tensor(value)

    count = sum(node.op == "placeholder" for node in module.graph.nodes)
    with mode, torch.no_grad():
        Keeping(module).run(*([None] * count), enable_io_processing=False)
    return values
