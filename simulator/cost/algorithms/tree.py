"""Two binary trees, each with half of the bytes: whoever is inner in one is a leaf in the other."""

from __future__ import annotations

from itertools import pairwise

from simulator.cost.algorithms.phase import Algorithm, GroupShape, Phase, hops

SOURCE = "Sanders, Speck, Träff 2009; NCCL's double binary tree (src/graph/trees.cc)"


def parents(size: int) -> list[int | None]:
    """Return the parent of each of ``size`` places in a binary tree in which every odd place is a leaf.

    Notes
    -----
    A place whose lowest set bit is b hangs below its number with that bit cleared and 2 b set, or, where that is past
    the end, below its number with the bit cleared (NCCL, ncclGetBtree). Place 0 is the root.

    Examples
    --------
    >>> parents(6)
    [None, 2, 4, 2, 0, 4]
    """
    tree: list[int | None] = [None]
    for place in range(1, size):
        bit = place & -place
        upper = (place ^ bit) | (bit << 1)
        tree.append(upper if upper < size else place ^ bit)
    return tree


def twin(size: int) -> list[int | None]:
    """Return the second tree: the first one mirrored, or, for an odd number of places, moved on by one."""
    first = parents(size)
    if size % 2 == 0:
        return [None if parent is None else size - 1 - parent for parent in reversed(first)]
    moved = [first[place - 1] for place in range(size)]
    return [None if parent is None else (parent + 1) % size for parent in moved]


def depth(tree: list[int | None]) -> int:
    """Return the number of hops from the farthest place to the root."""

    def above(place: int) -> int:
        parent = tree[place]
        return 0 if parent is None else 1 + above(parent)

    return max(map(above, range(len(tree))))


def trees(shape: GroupShape) -> list[list[int | None]]:
    """Return the trees that run in parallel, each as the parent of every member.

    Over several nodes the trees join one member of each, behind which the others of its node form a chain; there are
    two trees for each network card. On one node the trees join all members.
    """
    groups = shape.by_node()
    if len(groups) == 1:
        groups = [[member] for member in groups[0]]
    found: list[list[int | None]] = []
    for channel in range(min(map(len, groups))):
        chains = [group[channel:] + group[:channel] for group in groups]
        for tree in (parents(len(groups)), twin(len(groups))):
            above: list[int | None] = [None] * shape.num_ranks
            for chain, upper in zip(chains, tree, strict=True):
                above[chain[0]] = None if upper is None else chains[upper][0]
                for nearer, member in pairwise(chain):
                    above[member] = nearer
            found.append(above)
    return found


def all_reduce(shape: GroupShape) -> tuple[Phase, ...]:
    """Sum up the trees and send the sum down, in small pieces: they fill, then all hops work at once."""
    plans, nodes = trees(shape), shape.nodes
    up = [(member, above) for tree in plans for member, above in enumerate(tree) if above is not None]
    down = [(above, member) for member, above in up]
    inside = [pair for pair in up if nodes[pair[0]] == nodes[pair[1]]]
    between = [pair for pair in up if nodes[pair[0]] != nodes[pair[1]]]
    # The first piece crosses every level twice; the last of these hops is that of the flow itself.
    groups = shape.by_node()
    if not between:
        return (hops(inside, 0.0, 2 * depth(parents(shape.num_ranks)) - 1), hops(up + down, 1 / len(plans)))
    fill = [hops(inside, 0.0, 2 * (max(map(len, groups)) - 1))] if inside else []
    fill.append(hops(between, 0.0, 2 * depth(parents(len(groups))) - 1))
    return (*fill, hops(up + down, 1 / len(plans)))


ALGORITHMS = (Algorithm(name="tree", operation="all_reduce", phases=all_reduce, in_libraries=True, source=SOURCE),)
