"""Collective algorithms, one file each: what a group of ranks sends, phase after phase."""

from simulator.cost.algorithms import direct, halving_doubling, hierarchical, in_network, ring, tree
from simulator.cost.algorithms.phase import OPERATIONS, Algorithm, GroupShape, Phase

ALGORITHMS: dict[tuple[str, str], Algorithm] = {
    (algorithm.operation, algorithm.name): algorithm
    for module in (ring, tree, in_network, direct, hierarchical, halving_doubling)
    for algorithm in module.ALGORITHMS
}
"""Algorithms by operation and name."""

__all__ = ["ALGORITHMS", "OPERATIONS", "Algorithm", "GroupShape", "Phase"]
