"""Operators joined to layers: each layer is a group of operators with one output, all from one submodule.

Three kinds of operators are in no group of their own; every group that reads them has a copy: constants, which depend
on neither data nor parameters; what is made of parameters alone; and views, which cost nothing. Of the others an
operator joins the group of those that read it, if they are one group of the same submodule. Products with weights,
convolutions, look-ups and sums of two layers stay alone: they are what plans cut and schedules split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from executor.tracing.export import Exported
from executor.tracing.places import path, place
from executor.tracing.source import refuse

ATEN = torch.ops.aten
ALONE = (ATEN.linear, ATEN.conv1d, ATEN.conv2d, ATEN.conv3d, ATEN.embedding, ATEN.batch_norm, ATEN.layer_norm)
"""Operators that stay alone."""


@dataclass(slots=True)
class Group:
    """The operators of one layer.

    Parameters
    ----------
    root
        The last one; makes the output.
    nodes
        All, in running order, with copies of what belongs to nobody.
    reads
        The roots that it reads, and placeholders of data, in the order in which they are read.
    parameters, constants
        Placeholders of parameters, and values that are the same in every step, that it reads.
    name, block
        The layer's, and that of the repeated unit that it belongs to.
    """

    root: fx.Node
    nodes: list[fx.Node] = field(default_factory=list)
    reads: list[fx.Node] = field(default_factory=list)
    parameters: list[fx.Node] = field(default_factory=list)
    constants: list[fx.Node] = field(default_factory=list)
    name: str = ""
    block: str = ""


class Grouping:
    """The groups of a traced module.

    Parameters
    ----------
    exported
        The module.

    Attributes
    ----------
    groups
        In running order, by root.
    """

    def __init__(self, exported: Exported) -> None:
        self.exported = exported
        self.values = exported.values
        self.order = [node for node in exported.operators.graph.nodes if node in self._needed]
        self._groups: dict[fx.Node, fx.Node] = {}
        for node in reversed(self.order):
            if self.is_standing(node):
                self._groups[node] = self._joined(node)
        roots = [node for node in self.order if node in self._groups and self._groups[node] is node]
        self.groups: dict[fx.Node, Group] = {root: self._group(root) for root in roots}

    @cached_property
    def _needed(self) -> set[fx.Node]:
        """What the output depends on."""
        needed, waiting = set[fx.Node](), [self.exported.output]
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting += node.all_input_nodes
        return needed

    @cached_property
    def _of_data(self) -> set[fx.Node]:
        """What depends on the data."""
        return self._behind({*self.exported.inputs, self.exported.target})

    def of_data(self, node: fx.Node) -> bool:
        """Return whether a value depends on the data."""
        return node in self._of_data

    @cached_property
    def _of_target(self) -> set[fx.Node]:
        """What depends on the target."""
        return self._behind({self.exported.target})

    @cached_property
    def _of_parameters(self) -> set[fx.Node]:
        """What depends on parameters."""
        return self._behind({*self.exported.parameters})

    def _behind(self, sources: set[Any]) -> set[fx.Node]:
        found: set[fx.Node] = set()
        for node in self.order:
            if node in sources or any(each in found for each in node.all_input_nodes):
                found.add(node)
        return found

    def is_constant(self, node: fx.Node) -> bool:
        """Return whether a value is the same in every step."""
        return node not in self._of_data and node not in self._of_parameters

    def is_trainable(self, node: fx.Node) -> bool:
        """Return whether a value has a gradient."""
        value = self.values[node]
        return node in self._of_parameters and isinstance(value, Tensor) and value.is_floating_point()

    def is_standing(self, node: fx.Node) -> bool:
        """Return whether an operator belongs to one group alone: it depends on data, and is more than a view."""
        if node is self.exported.output:
            return True
        if node.op == "placeholder" or node not in self._of_data:
            return False
        return not self._is_view(node) or self._ends_submodule(node)

    def _ends_submodule(self, view: fx.Node) -> bool:
        """Return whether a view is the last of those behind an operator of a submodule, all with one reader."""
        readers = [user for user in view.users if user in self._needed]
        if len(readers) != 1 or (path(readers[0]) == path(view) and not self.is_alone(readers[0])):
            return False
        node = view
        while self._is_view(node):
            if node.op == "placeholder" or len(node.all_input_nodes) != 1 or "getitem" in str(node.target):
                return False
            (node,) = node.all_input_nodes
            if sum(user in self._needed for user in node.users) != 1:
                return False
        return node.op != "placeholder" and path(node) == path(view) and not self.is_alone(node)

    def _is_view(self, node: fx.Node) -> bool:
        """Return whether an operator makes views of one tensor, or takes one result of several."""
        if node.op != "call_function" or "getitem" in str(node.target):
            return True
        made = self.values[node]
        of_data = [each for each in node.all_input_nodes if each in self._of_data]
        if len(of_data) != 1 or not isinstance(source := self.values[of_data[0]], Tensor):
            return False
        results = [made] if isinstance(made, Tensor) else made
        storage = source.untyped_storage()._cdata
        return all(isinstance(each, Tensor) and each.untyped_storage()._cdata == storage for each in results)

    def _readers(self, node: fx.Node) -> Iterator[fx.Node]:
        """Yield the operators that read a value, through views."""
        for user in node.users:
            if user not in self._needed or user.op == "output":
                continue
            if self.is_standing(user):
                yield user
            else:
                yield from self._readers(user)

    def _joined(self, node: fx.Node) -> fx.Node:
        """Return the root of the group that an operator belongs to; itself if it is one."""
        if node is self.exported.output:
            return node
        roots = {self._groups[reader] for reader in self._readers(node)}
        if node in self._of_target:
            return self.exported.output
        (root,) = roots if len(roots) == 1 else (node,)
        several = not isinstance(self.values[node], Tensor)
        if several and len(roots) > 1:
            refuse(place(node), f"{node.target} makes several tensors for different submodules", "use them in one")
        apart = self.is_alone(node) or self.is_alone(root) or path(node) != path(root)
        return node if apart and not several else root

    def is_alone(self, node: fx.Node) -> bool:
        """Return whether an operator makes a layer by itself."""
        target = node.target
        if not isinstance(target, torch._ops.OpOverload):
            return False
        if target.overloadpacket in ALONE:
            return any(each in self._of_parameters for each in node.all_input_nodes)
        terms = node.all_input_nodes
        return (
            target is ATEN.add.Tensor
            and len(terms) == 2
            and not node.kwargs
            and all(self.is_trainable(each) and each in self._of_data for each in terms)
            and self.values[terms[0]].shape == self.values[terms[1]].shape
            and any(self._comes_from_elsewhere(each, path(node)) for each in terms)
        )

    def _comes_from_elsewhere(self, term: fx.Node, submodule: str) -> bool:
        """Return whether another layer makes a term: another submodule, or what stays alone."""
        while self._is_view(term) and term.op != "placeholder":
            (term,) = (each for each in term.all_input_nodes if each in self._of_data)
        return path(term) != submodule or self.is_alone(term)

    def _group(self, root: fx.Node) -> Group:
        """Collect what a group runs and reads."""
        group = Group(root=root)
        members = {node for node, of in self._groups.items() if of is root}
        wanted, waiting = set[fx.Node](), [root]
        found = {"reads": set[fx.Node](), "parameters": set[fx.Node](), "constants": set[fx.Node]()}
        while waiting:
            node = waiting.pop()
            if node in self.exported.parameters:
                found["parameters"].add(node)
            elif self.is_constant(node) and isinstance(self.values.get(node), Tensor):
                found["constants"].add(node)
            elif node.op == "placeholder" or (self.is_standing(node) and node not in members):
                found["reads"].add(node)
            elif node not in wanted:
                wanted.add(node)
                waiting += node.all_input_nodes
        group.nodes = [node for node in self.order if node in wanted]
        arguments = list(dict.fromkeys(each for node in group.nodes for each in node.all_input_nodes))
        group.reads, group.parameters, group.constants = (
            [node for node in arguments if node in nodes] for nodes in found.values()
        )
        return group
