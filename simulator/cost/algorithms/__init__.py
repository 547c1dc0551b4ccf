"""Collective algorithms, one file each: what a group of ranks sends, phase after phase."""

from simulator.cost.algorithms import direct, expert_dispatch, halving_doubling, hierarchical, in_network, ring, tree
from simulator.cost.algorithms.phase import OPERATIONS, Algorithm, GroupShape, Phase

ALGORITHMS: dict[tuple[str, str], Algorithm] = {
    (algorithm.operation, algorithm.name): algorithm
    for module in (ring, tree, in_network, direct, hierarchical, halving_doubling)
    for algorithm in module.ALGORITHMS
}
"""Algorithms by operation and name."""


def algorithms_of(operation: str) -> list[Algorithm]:
    """Return all algorithms that do an operation; none if there is no such operation."""
    if dispatch := expert_dispatch.dispatch(operation):
        return [dispatch]
    return [each for each in ALGORITHMS.values() if each.operation == operation]


__all__ = ["ALGORITHMS", "OPERATIONS", "Algorithm", "GroupShape", "Phase", "algorithms_of"]
