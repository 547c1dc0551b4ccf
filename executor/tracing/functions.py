"""A group as a function of what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from executor.tracing.groups import Group


def function_of(group: Group, operators: fx.GraphModule, device: torch.device | None = None) -> fx.GraphModule:
    """Return the group as a module that takes what it reads, then its parameters, then its constants.

    Equal groups give equal code. Tensors that an operator makes of nothing are made on ``device``.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for kind, nodes in (("read", group.reads), ("parameter", group.parameters), ("constant", group.constants)):
        for index, node in enumerate(nodes):
            copies[node] = graph.placeholder(f"{kind}{index}")
    for node in group.nodes:
        arguments = fx.map_arg(node.args, copies.__getitem__)
        options: Mapping[str, Any] = fx.map_arg(node.kwargs, copies.__getitem__)
        if device and options.get("device") is not None:
            options = {**options, "device": device}
        copies[node] = graph.create_node(node.op, node.target, arguments, dict(options))
    graph.output(copies[group.root])
    return fx.GraphModule(operators, graph)
