"""Every member with every other, at once or one partner after the other; and a single message."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulator.cost.algorithms.phase import Algorithm, GroupShape, Phase, hops

MAX_RANKS = 2048
"""Larger groups have too many pairs to route one by one."""

SOURCE = "Thakur, Rabenseifner, Gropp 2005; NCCL's all-to-all is grouped sends and receives"


def _pairs_are_countable(shape: GroupShape) -> bool:
    return shape.num_ranks <= MAX_RANKS


def _algorithm(name: str, operation: str, phases: Callable[[GroupShape], tuple[Phase, ...]]) -> Algorithm:
    return Algorithm(
        name=name,
        operation=operation,
        phases=phases,
        applies=_pairs_are_countable,
        in_libraries=(name, operation) == ("direct", "all_to_all"),
        source=SOURCE,
    )


def exchange(shape: GroupShape) -> tuple[Phase, ...]:
    """Send each other member its S / n bytes, all at once."""
    size = shape.num_ranks
    sources, destinations = np.divmod(np.arange(size * size, dtype=np.int64), size)
    others = sources != destinations
    return (Phase(sources[others], destinations[others], 1 / size),)


def pairwise(shape: GroupShape) -> tuple[Phase, ...]:
    """Send to the member s places on, in step s."""
    members = np.arange(shape.num_ranks, dtype=np.int64)
    return tuple(
        Phase(members, (members + step) % shape.num_ranks, 1 / shape.num_ranks) for step in range(1, shape.num_ranks)
    )


def all_reduce(shape: GroupShape) -> tuple[Phase, ...]:
    """Collect the parts that this member sums, then send the sums to all."""
    return exchange(shape) + exchange(shape)


def send(shape: GroupShape) -> tuple[Phase, ...]:
    """Send all bytes from the first member to the second."""
    return (hops([(0, 1)], 1.0),)


def shift(shape: GroupShape) -> tuple[Phase, ...]:
    """Send all bytes to the next member, all at once."""
    size = shape.num_ranks
    return (hops([(member, (member + 1) % size) for member in range(size)], 1.0),)


ALGORITHMS = (
    _algorithm("direct", "all_to_all", exchange),
    _algorithm("pairwise", "all_to_all", pairwise),
    _algorithm("direct", "all_reduce", all_reduce),
    _algorithm("direct", "all_gather", exchange),
    _algorithm("direct", "reduce_scatter", exchange),
    Algorithm(name="direct", operation="shift", phases=shift, in_libraries=True, source=SOURCE),
    Algorithm(name="direct", operation="send", phases=send, in_libraries=True, source=SOURCE),
)
