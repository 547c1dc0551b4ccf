"""Which parameter gradients of a stage are reduced together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from simulator.model.graph import Node, Shard
from simulator.model.layers import Exchange, GroupedLinear
from simulator.plan.plan import Plan


class Filled(NamedTuple):
    """A bucket: its first node, the nodes whose parameters it holds in backward order, and whose groups sum it."""

    start: int
    names: tuple[str, ...]
    axis: str = "dp"


def filled_up(elements: int, plan: Plan, axis: str = "dp") -> int:
    """Return the size of a bucket that those who share it out can share evenly, if they do."""
    sharers = plan.sharers_along(axis) if plan.updates_parts else 1
    return math.ceil(elements / sharers) * sharers


def block_buckets(nodes: Sequence[Node], plan: Plan, blocks: list[int], axes: Iterable[str]) -> list[Filled]:
    """Return the buckets of each block's parameters in backward order, one for each of the axes that hold replicas."""
    buckets = []
    for first, end in reversed(list(pairwise([*blocks, len(nodes)]))):
        its = [node for node in reversed(nodes[first:end]) if node.layer.parameters()]
        for axis in axes:
            if names := tuple(node.name for node in its if _axis(node, plan) == axis):
                buckets.append(Filled(first, names, axis))
    return buckets


def filled_buckets(nodes: Sequence[Node], plan: Plan, axes: Iterable[str]) -> list[Filled]:
    """Return the buckets in backward order: one closes at the first node, going backward, at which it is full.

    None begins between a product that was cut and the exchange that ends its region: the pair runs as one. Parameters
    with replicas on other ranks are never in one bucket; those without replicas are in none.
    """
    inside = _inside_regions(nodes)
    found = (bucket for axis in axes for bucket in _filled(nodes, plan, axis, inside))
    return sorted(found, key=lambda bucket: -bucket.start)


def _filled(nodes: Sequence[Node], plan: Plan, axis: str, inside: list[bool]) -> Iterator[Filled]:
    names: list[str] = []
    size = first = 0
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        if node.layer.parameters() and axis == _axis(node, plan):
            names.append(node.name)
            size += node.layer.num_parameters * plan.gradient_itemsize
            first = index
        if names and size >= plan.bucket_size and not inside[index]:
            yield Filled(index, tuple(names), axis)
            names, size = [], 0
    if names:
        yield Filled(max(i for i in range(first + 1) if not inside[i]), tuple(names), axis)


def _axis(node: Node, plan: Plan) -> str:
    """Return whose groups hold replicas of a node's parameters."""
    apart = plan.ep > 1 or plan.folds_experts
    return "dp_expert" if isinstance(node.layer, GroupedLinear) and apart else "dp"


def _inside_regions(nodes: Sequence[Node]) -> list[bool]:
    """Return for each node whether what comes before it is a shard that no exchange has made whole yet."""
    inside, is_shard = [], False
    for node in nodes:
        is_exchange = isinstance(node.layer, Exchange)
        inside.append(is_shard and not is_exchange)
        is_shard = not is_exchange and (is_shard or node.shard not in (Shard.NONE, Shard.SEQUENCE))
    return inside
