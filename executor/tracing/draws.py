"""Operators that draw random numbers."""

from __future__ import annotations

import torch
from torch import fx

from executor.tracing.groups import ATEN, Group
from executor.tracing.parameters import argument, packet
from executor.tracing.places import place

RATE_AT = {ATEN.dropout: 1, ATEN.scaled_dot_product_attention: 4}
"""Where operators take the share that they drop; without one they draw nothing."""


def draws(group: Group) -> str:
    """Return the first place of a group that draws random numbers; empty without."""
    return next((place(node) for node in group.nodes if _draws(node)), "")


def _draws(node: fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    if packet(node) in RATE_AT:
        return bool(argument(node, RATE_AT[packet(node)]))
    return torch.Tag.nondeterministic_seeded in node.target.tags
