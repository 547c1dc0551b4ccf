"""First inside the nodes, then between them: each local rank has its own ring over the nodes, on its own rail."""

from __future__ import annotations

from simulator.cost.algorithms.phase import Algorithm, GroupShape, Phase, hops

SOURCE = "Cho et al. 2019 (BlueConnect); Jia et al. 2018, section 3.3 (hierarchical all-reduce)"


def _rails(shape: GroupShape) -> bool:
    return shape.has_rails


def _circles(rings: list[list[int]], fraction: float, repeats: int) -> Phase:
    pairs = [pair for ring in rings for pair in zip(ring, ring[1:] + ring[:1], strict=True)]
    return hops(pairs, fraction, repeats)


def _inside(shape: GroupShape) -> Phase:
    """Rings inside the nodes, over all bytes: a reduce-scatter, or backwards an all-gather."""
    groups = shape.by_node()
    return _circles(groups, 1 / len(groups[0]), len(groups[0]) - 1)


def _between(shape: GroupShape, times: int) -> Phase:
    """Rings over the nodes on each rail, over its share of the bytes."""
    groups = shape.by_node()
    rails = [list(rail) for rail in zip(*groups, strict=True)]
    return _circles(rails, 1 / shape.num_ranks, times * (len(groups) - 1))


def all_reduce(shape: GroupShape) -> tuple[Phase, ...]:
    """Reduce-scatter inside, all-reduce between, all-gather inside."""
    return (_inside(shape), _between(shape, 2), _inside(shape))


def all_gather(shape: GroupShape) -> tuple[Phase, ...]:
    """Gather between, then inside."""
    return (_between(shape, 1), _inside(shape))


def reduce_scatter(shape: GroupShape) -> tuple[Phase, ...]:
    """Reduce inside, then between."""
    return (_inside(shape), _between(shape, 1))


ALGORITHMS = tuple(
    Algorithm(name="hierarchical", operation=phases.__name__, phases=phases, applies=_rails, source=SOURCE)
    for phases in (all_reduce, all_gather, reduce_scatter)
)
