"""Which parameter gradients of a stage are reduced together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from simulator.model.graph import Node, Shard
from simulator.model.layers import Exchange
from simulator.plan.plan import Plan

Start = tuple[int, tuple[str, ...]]
"""First node of a bucket, and the names of those whose parameters are in it, in backward order."""


def filled_up(elements: int, plan: Plan) -> int:
    """Return the size of a bucket that its replicas can share evenly, if they do."""
    return math.ceil(elements / plan.replicas) * plan.replicas if plan.is_sharded else elements


def block_buckets(nodes: Sequence[Node], blocks: list[int]) -> list[Start]:
    """Return the buckets of each block's parameters in backward order."""
    buckets = []
    for first, end in reversed(list(pairwise([*blocks, len(nodes)]))):
        names = tuple(node.name for node in reversed(nodes[first:end]) if node.layer.parameters())
        if names:
            buckets.append((first, names))
    return buckets


def filled_buckets(nodes: Sequence[Node], plan: Plan) -> list[Start]:
    """Return the buckets in backward order: one closes at the first node, going backward, at which it is full.

    None begins between a product that was cut and the exchange that ends its region: the pair runs as one.
    """
    inside = _inside_regions(nodes)
    buckets: list[Start] = []
    names: list[str] = []
    size = 0
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        if node.layer.parameters():
            names.append(node.name)
            size += node.layer.num_parameters * plan.itemsize
        if names and size >= plan.bucket_size and not inside[index]:
            buckets.append((index, tuple(names)))
            names, size = [], 0
    if names:
        first = min(i for i, node in enumerate(nodes) if node.name in names)
        buckets.append((max(i for i in range(first + 1) if not inside[i]), tuple(names)))
    return buckets


def _inside_regions(nodes: Sequence[Node]) -> list[bool]:
    """Return for each node whether what comes before it is a shard that no exchange has made whole yet."""
    inside, is_shard = [], False
    for node in nodes:
        is_exchange = isinstance(node.layer, Exchange)
        inside.append(is_shard and not is_exchange)
        is_shard = not is_exchange and (is_shard or node.shard is not Shard.NONE)
    return inside
