"""Operators that change a tensor in place, replaced by those that make a new one."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from executor.tracing.places import place
from executor.tracing.source import refuse


def without_changes_in_place(
    graph: fx.Graph, values: Mapping[fx.Node, Any], constants: Container[fx.Node]
) -> dict[fx.Node, fx.Node]:
    """Replace them in the graph; return what was replaced by what.

    Buffers may be changed, as batch normalisation counts its batches; a part of a tensor may not.

    Raises
    ------
    InputError
        What is changed is read afterwards under another name, or is an input or a parameter.
    """
    nodes = list(graph.nodes)
    position = {node: index for index, node in enumerate(nodes)}
    replaced: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if not changes_in_place(node):
            continue
        changed = node.args[0]
        assert isinstance(changed, fx.Node)
        if changed in constants:
            _check_constant(node, constants)
            continue
        before = (each for each in nodes[: position[node]] if each is not changed)
        others = [each for each in before if _share(values[each], values[changed])]
        late = [user for each in others for user in each.users if position[user] > position[node]]
        if changed.op == "placeholder" or late:
            what = "an input or a parameter" if changed.op == "placeholder" else "a part of a tensor that is read again"
            refuse(place(node), f"{node.target} changes {what} in place", "make a new tensor instead")
        name, overload = str(node.target).removeprefix("aten.").rsplit(".", 1)
        function = getattr(torch.ops.aten, name[:-1], None)
        if function is None or overload not in function.overloads():
            refuse(place(node), f"{node.target} changes a tensor in place", "make a new tensor instead")
        node.target = getattr(function, overload)
        changed.replace_all_uses_with(node, lambda user, at=position[node]: position[user] > at)  # type: ignore[misc]
        replaced[changed] = node
    return replaced


def changes_in_place(node: fx.Node) -> bool:
    """Return whether an operator changes its first argument."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _check_constant(node: fx.Node, constants: Container[fx.Node]) -> None:
    if any(each not in constants for each in node.all_input_nodes):
        refuse(place(node), f"{node.target} changes a buffer by the data", "plan the module without it")


def _share(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return isinstance(one, list | tuple) and any(_share(each, other) for each in one)
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata
