"""Rings: each member sends to the next, all at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from simulator.cost.algorithms.phase import Algorithm, GroupShape, Phase, hops
from simulator.cost.algorithms.ring_search import rings_over

RINGS = "Thakur, Rabenseifner, Gropp 2005; NCCL's rings, one a channel"


def channels(shape: GroupShape) -> list[list[int]]:
    """Return the cyclic orders of the members in which parallel rings run, each with a share of the bytes.

    One ring would use one network card of each node. There are as many as a node has members: each enters the node
    at another one, and leaves by the neighbour, through which the next node is entered on the same rail; so nodes
    are walked to and fro. Where links join members of one node directly, as many rings as they have room for.
    """
    groups = shape.by_node()
    if len(groups) > 1:
        return [_through(groups, channel) for channel in range(min(map(len, groups)))]
    found = rings_over(shape.cables, shape.num_ranks) if shape.cables else ()
    return [list(order) for order in found] or groups


def _through(groups: list[list[int]], channel: int) -> list[int]:
    order: list[int] = []
    for index, group in enumerate(groups):
        turned = group[channel:] + group[:channel]
        order += turned[::-1] if index % 2 else turned
    return order


def _cycle(times: int, shape: GroupShape) -> tuple[Phase, ...]:
    """Go ``times`` x (n - 1) steps around, S / n bytes in each, shared by the channels."""
    orders, size = channels(shape), shape.num_ranks
    pairs = [pair for order in orders for pair in zip(order, order[1:] + order[:1], strict=True)]
    return (hops(pairs, 1 / (size * len(orders)), times * (size - 1)),)


def _chain(shape: GroupShape) -> tuple[Phase, ...]:
    """Pass the bytes on from member 0 in small pieces: the chain fills, then all its hops work at once."""
    orders = channels(shape)
    begun = [order[order.index(0) :] + order[: order.index(0)] for order in orders]
    pairs = [pair for order in begun for pair in pairwise(order)]
    return (hops(pairs, 0.0, shape.num_ranks - 2), hops(pairs, 1 / len(orders)))


_PHASES: dict[str, Callable[[GroupShape], tuple[Phase, ...]]] = {
    "all_reduce": partial(_cycle, 2),
    "all_gather": partial(_cycle, 1),
    "reduce_scatter": partial(_cycle, 1),
    "broadcast": _chain,
}

ALGORITHMS = (
    *(
        Algorithm(name="ring", operation=operation, phases=phases, in_libraries=True, source=RINGS)
        for operation, phases in _PHASES.items()
    ),
    Algorithm(
        name="whole_ring",
        operation="reduce_scatter",
        phases=_PHASES["all_reduce"],
        source="gloo: an all-reduce of which each member keeps its part (executor/transport.py)",
    ),
)
