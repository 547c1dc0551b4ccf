"""Exchanges with partners at distance 1, 2, 4, ...: few steps, for groups whose size is a power of two."""

from __future__ import annotations

from simulator.cost.algorithms.phase import Algorithm, GroupShape, Phase, hops

SOURCE = "Rabenseifner 2004: vector halving and distance doubling; Thakur, Rabenseifner, Gropp 2005"


def _power_of_two(shape: GroupShape) -> bool:
    return shape.num_ranks & (shape.num_ranks - 1) == 0


def reduce_scatter(shape: GroupShape) -> tuple[Phase, ...]:
    """Exchange half of what is left with a partner twice as far each time: the most bytes go to the nearest."""
    order = [member for group in shape.by_node() for member in group]
    size = shape.num_ranks
    return tuple(
        hops([(order[i], order[i ^ distance]) for i in range(size)], 1 / (2 * distance))
        for distance in (1 << step for step in range(size.bit_length() - 1))
    )


def all_gather(shape: GroupShape) -> tuple[Phase, ...]:
    """A reduce-scatter backwards."""
    return reduce_scatter(shape)[::-1]


def all_reduce(shape: GroupShape) -> tuple[Phase, ...]:
    """A reduce-scatter, then an all-gather."""
    return reduce_scatter(shape) + all_gather(shape)


ALGORITHMS = tuple(
    Algorithm(name="halving_doubling", operation=phases.__name__, phases=phases, applies=_power_of_two, source=SOURCE)
    for phases in (all_reduce, all_gather, reduce_scatter)
)
