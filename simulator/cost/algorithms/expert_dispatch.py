"""The way of tokens to their experts as DeepEP and HybridEP send them: once to each node, once to each rank there.

An all-to-all sends a token once for each of its experts. Here it crosses the network once for each node that holds some
of them, to the rank of the same rail, which forwards it inside the node: a copy for each rank, not for each expert
(DeepSeek-AI 2024, arXiv 2412.19437, section 3.2.2). Forwarding is pipelined with the network and hidden behind it,
since links inside a node are several times as fast. The way back, where partial sums are added up on the way, is the
same in the other direction.
"""

from __future__ import annotations

import math
import re
from functools import partial

import numpy as np

from simulator.cost.algorithms.phase import Algorithm, GroupShape, Phase, hops
from simulator.topology.protocols import Protocol
from simulator.units import parse_seconds

OPERATION = re.compile(r"dispatch:(\d+)/(\d+)")
"""``dispatch:K/E``: each token goes to K of E experts; the size is that of the tokens, once each."""

_SOURCE = (
    "deepseek-ai/DeepEP, Hybrid-EP_Implementation.md: bf16 kernels alone, 4096 tokens of 7168 features, 8 experts of "
    "each, evenly chosen. It counts each copy that arrives, the rank's or node's own too, which are subtracted here"
)

PROTOCOLS = (
    Protocol(
        algorithm="deep_ep",
        name="HybridEP",
        scope="node",
        overhead=parse_seconds("20 us"),
        efficiency=0.69,
        source=f"{_SOURCE}: on 8 B200 and 16, 24, 32 and 36 GB200 with 16 SMs 543 to 750 GB/s, of which 7/8 to 35/36 "
        "cross a 900 GB/s link: 59 to 73 %. Overhead: as NCCL's calls, which are fitted",
    ),
    Protocol(
        algorithm="deep_ep",
        name="HybridEP",
        scope="cluster",
        overhead=parse_seconds("20 us"),
        efficiency=0.82,
        source=f"{_SOURCE}: on 16, 32 and 64 H100 with 16 SMs 50 to 72 GB/s, of which 1/2, 3/4 and 7/8 cross a "
        "400 Gb/s card: 63 to 87 %. Overhead: as NCCL's calls, which are fitted",
    ),
)


def dispatch(operation: str) -> Algorithm | None:
    """Return how tokens reach their experts; None for another operation."""
    found = OPERATION.fullmatch(operation)
    if found is None:
        return None
    return Algorithm(
        name="deep_ep",
        operation=operation,
        phases=partial(_phases, top_k=int(found[1]), experts=int(found[2])),
        in_libraries=True,
        protocols=PROTOCOLS,
        source="deepseek-ai/DeepEP",
    )


def reached(places: int, top_k: int, experts: int) -> float:
    """Return the probability that a place holds some of a token's experts.

    Without replacement: of the E (1 - 1/n) experts elsewhere all K are chosen with probability
    C(E (1 - 1/n), K) / C(E, K).

    Examples
    --------
    >>> reached(1, 8, 64), reached(2, 1, 8), reached(8, 2, 8)
    (1.0, 0.5, 0.25)
    """
    elsewhere = experts - experts / places
    return 1 - math.prod(max(elsewhere - chosen, 0.0) / (experts - chosen) for chosen in range(top_k))


def _phases(shape: GroupShape, top_k: int, experts: int) -> tuple[Phase, ...]:
    """Send tokens to the other nodes, each rank on its rail; on a single node, to the other ranks."""
    groups = shape.by_node()
    if len(groups) == 1:
        sources, destinations = np.divmod(np.arange(shape.num_ranks**2, dtype=np.int64), shape.num_ranks)
        others = sources != destinations
        return (Phase(sources[others], destinations[others], reached(shape.num_ranks, top_k, experts)),)
    pairs = [
        (member, other[place % len(other)])
        for group in groups
        for place, member in enumerate(group)
        for other in groups
        if other is not group
    ]
    return (hops(pairs, reached(len(groups), top_k, experts)),)
