"""Switches sum what passes: each member sends its bytes up once, and gets the sum."""

from __future__ import annotations

from simulator.cost.algorithms.phase import Algorithm, GroupShape, Phase, hops
from simulator.cost.algorithms.tree import depth, parents, twin

SOURCE = "Klenk et al. 2020 (in-network reductions over NVSwitch); NCCL's NVLS and NVLSTree, NVIDIA's SHARP"


def _summing_switches(shape: GroupShape) -> bool:
    return shape.in_network and shape.num_ranks > 2 and (shape.has_rails or len(shape.by_node()) == 1)


def all_reduce(shape: GroupShape) -> tuple[Phase, ...]:
    """Let the node's switch sum a part for each of its members, and multicast what that member sends back.

    Over several nodes the members of each rail add their parts in two trees before they send them back.

    Notes
    -----
    Each of m members of a node provides all parts (S bytes) to the switch and returns the sum of its own (S / m); it
    gets its own part's sum and then all sums: S (m + 1) / m each way. On a star of links, hops to the next member load
    the links in the same way.
    """
    groups = shape.by_node()
    width = len(groups[0])
    star = [pair for group in groups for pair in zip(group, group[1:] + group[:1], strict=True)]
    if len(groups) == 1:
        return (hops(star, 1.0), hops(star, 1 / width))
    rails = list(zip(*groups, strict=True))
    plans = (parents(len(groups)), twin(len(groups)))
    up = [
        (rail[node], rail[above])
        for rail in rails
        for tree in plans
        for node, above in enumerate(tree)
        if above is not None
    ]
    down = [(above, member) for member, above in up]
    fill = (hops(star, 0.0, 2), hops(up, 0.0, 2 * depth(plans[0]) - 1))
    # All of it is one pipeline. A hop in a tree carries S / 2 m; one between neighbours 2 (m + 1) times as much.
    return (*fill, hops(up + down + 2 * (width + 1) * star, 1 / (2 * width)))


ALGORITHMS = (
    Algorithm(
        name="in_network",
        operation="all_reduce",
        phases=all_reduce,
        applies=_summing_switches,
        in_libraries=True,
        source=SOURCE,
    ),
)
