"""Names of layers after the user's submodules, and the repeated units that they belong to."""

from __future__ import annotations

from collections import Counter

import torch
from torch import fx, nn
from torch.utils.flop_counter import flop_registry

from executor.tracing.groups import Grouping
from executor.tracing.places import path

RESERVED = ("input", "loss")
"""Names that the graph has for itself."""


def name_groups(grouping: Grouping) -> None:
    """Give every group a name and a block."""
    module = grouping.exported.module
    seen: Counter[str] = Counter()
    for root, group in grouping.groups.items():
        submodule = path(root)
        leaf = submodule and not any(True for _ in module.get_submodule(submodule).children())
        name = submodule if leaf else ".".join(filter(None, (submodule, _word(group.nodes, root))))
        seen[name] += 1
        repeated = seen[name] > 1 or name in RESERVED
        group.name = f"{name}_{seen[name]}" if repeated else name
        behind = [grouping.groups[read].block for read in group.reads if read in grouping.groups]
        group.block = _block(module, submodule) or (behind[-1] if behind else group.name)


def _word(nodes: list[fx.Node], root: fx.Node) -> str:
    """Return the name of the operator that a group is called after: the first product, else the last operator."""
    products = (node for node in nodes if getattr(node.target, "overloadpacket", None) in flop_registry)
    fused = (node for node in nodes if node.target is torch.ops.aten.scaled_dot_product_attention.default)
    node = next(fused, None) or next(products, root)
    return str(getattr(node.target, "__name__", node.target)).partition(".")[0]


def _block(module: nn.Module, submodule: str) -> str:
    """Return the path down to the first entry of a list of modules, or else to the first submodule."""
    parts = submodule.split(".") if submodule else []
    for depth, part in enumerate(parts):
        parent = module.get_submodule(".".join(parts[:depth]))
        if part.isdigit() and isinstance(parent, nn.ModuleList | nn.Sequential) and len(parent) > 1:
            return ".".join(parts[: depth + 1])
    # A model inside a model is no unit: its own children are.
    while len(parts) > 1 and _has_list(module.get_submodule(parts[0])):
        return f"{parts[0]}.{_block(module.get_submodule(parts[0]), '.'.join(parts[1:]))}"
    return parts[0] if parts and not _has_list(module.get_submodule(parts[0])) else ""


def _has_list(module: nn.Module) -> bool:
    return any(isinstance(each, nn.ModuleList) for each in module.modules())
