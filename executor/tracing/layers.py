"""The layers of a traced module: each group with its name, what it reads, its parameters and its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from executor.tracing.export import Exported
from executor.tracing.groups import Group, Grouping
from executor.tracing.names import name_groups
from executor.tracing.parameters import borrowed_from, owners, parameter_names
from simulator.model.graph import INPUT


@dataclass(frozen=True, slots=True)
class TracedLayer:
    """One layer.

    Parameters
    ----------
    group
        Its operators.
    inputs
        What it reads, by name, each once.
    parameters
        Placeholders of its parameters by the names that the layer has for them.
    owner
        The layer whose weight it uses; empty without.
    """

    group: Group
    inputs: tuple[str, ...]
    parameters: Mapping[str, fx.Node]
    owner: str


def layers_of(exported: Exported) -> tuple[Grouping, list[TracedLayer]]:
    """Return the layers of a traced module in running order."""
    grouping = Grouping(exported)
    name_groups(grouping)
    owned = owners(grouping)
    layers = []
    for group in grouping.groups.values():
        owner = borrowed_from(grouping, group, owned)
        read = (node for node in group.reads if node is not exported.target)
        names = (INPUT if node in exported.inputs else grouping.groups[node].name for node in read)
        parameters = parameter_names(grouping, group)
        layers.append(TracedLayer(group, tuple(dict.fromkeys(names)), parameters, owner))
    return grouping, layers
