"""The switch sums what passes: each member sends its bytes up once, and gets the sum."""

from __future__ import annotations

from simulator.cost.algorithms.phase import Algorithm, GroupShape, Phase, hops

SOURCE = "Klenk et al. 2020 (in-network reductions over NVSwitch); NCCL's NVLS, NVIDIA's SHARP"


def _summing_switch(shape: GroupShape) -> bool:
    return shape.in_network and shape.num_ranks > 2


def all_reduce(shape: GroupShape) -> tuple[Phase, ...]:
    """Let the switch sum one part for each member, and multicast what that member sends back.

    Notes
    -----
    Each member provides all parts (S bytes) to the switch and returns the sum of its own part (S / n); it gets its own
    part's sum and then all sums: S (n + 1) / n each way. On a star of links, hops to the next member load the links
    in the same way.
    """
    size = shape.num_ranks
    ring = [(member, (member + 1) % size) for member in range(size)]
    return (hops(ring, 1.0), hops(ring, 1 / size))


ALGORITHMS = (
    Algorithm(
        name="in_network",
        operation="all_reduce",
        phases=all_reduce,
        applies=_summing_switch,
        in_libraries=True,
        source=SOURCE,
    ),
)
