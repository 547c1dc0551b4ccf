"""Parameters of layers: what they are called there, and whose they are where two layers read one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from executor.tracing.groups import ATEN, Group, Grouping
from executor.tracing.places import path, place
from executor.tracing.source import refuse

WEIGHT_AT = {ATEN.linear: 1, ATEN.conv2d: 1, ATEN.embedding: 0, ATEN.layer_norm: 2, ATEN.batch_norm: 1}
"""Where operators take their weight; the bias stands behind it."""


def owners(grouping: Grouping) -> dict[str, Group]:
    """Return for each parameter the group that owns it: the first that reads it."""
    found: dict[str, Group] = {}
    for group in grouping.groups.values():
        for node in group.parameters:
            found.setdefault(grouping.exported.parameters[node], group)
    return found


def borrowed_from(grouping: Grouping, group: Group, owned: dict[str, Group]) -> str:
    """Return the layer whose weight a group uses; empty if all of its parameters are its own.

    Raises
    ------
    InputError
        It uses anything else of another layer.
    """
    full = grouping.exported.parameters
    foreign = [node for node in group.parameters if owned[full[node]] is not group]
    if not foreign:
        return ""
    owner = owned[full[foreign[0]]]
    of_product = packet(group.root) is ATEN.linear and foreign == [group.root.args[1]]
    if not of_product or parameter_names(grouping, owner).get("weight") is None:
        message = f"{group.name} reads {full[foreign[0]]}, which {owner.name} has read before"
        refuse(place(group.root), message, "only a linear layer may use another layer's weight; give each its own")
    return owner.name


def parameter_names(grouping: Grouping, group: Group) -> dict[str, fx.Node]:
    """Return a group's parameters by names that are the same for equal layers."""
    standard = dict(_standard(group.root))
    if set(standard.values()) == set(group.parameters):
        return standard
    submodule = path(group.root)
    found: dict[str, fx.Node] = {}
    for node in group.parameters:
        full = grouping.exported.parameters[node]
        name = full.removeprefix(f"{submodule}.") if submodule else full
        found[name.replace(".", "_")] = node
    return found


def _standard(node: fx.Node) -> Iterator[tuple[str, fx.Node]]:
    """Yield what stands where an operator takes weight and bias."""
    first = WEIGHT_AT.get(packet(node))
    if first is None:
        return
    for name, at in (("weight", first), ("bias", first + 1)):
        if isinstance(value := argument(node, at), fx.Node):
            yield name, value


def packet(node: fx.Node) -> Any:
    """Return the operator, whatever the overload."""
    return getattr(node.target, "overloadpacket", None)


def argument(node: fx.Node, at: int, default: Any = None) -> Any:
    """Return an argument by its place, whether it was passed by that or by name; None counts as not passed."""
    assert isinstance(node.target, torch._ops.OpOverload)
    value = node.args[at] if len(node.args) > at else node.kwargs.get(node.target._schema.arguments[at].name)
    return default if value is None else value
