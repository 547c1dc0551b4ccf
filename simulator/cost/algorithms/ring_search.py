"""Rings over links that join members directly: as many as fit beside each other, as NCCL's search finds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from simulator.cost.algorithms.phase import Cable

MAX_STEPS = 20_000
"""Paths that are looked at; the 8 GPUs of a hybrid cube mesh take some 3,000."""

Edge = tuple[int, int]


@cache
def rings_over(cables: tuple[Cable, ...], size: int) -> tuple[tuple[int, ...], ...]:
    """Return cyclic orders of the members that use the cables best; none where no cables join all in a ring.

    Each cycle is walked in both directions. A cable that is twice as wide as the narrowest one takes twice as many.
    """
    widths = {(one, other): bandwidth for one, other, bandwidth in cables}
    if len(cables) == size * (size - 1) // 2 and len(set(widths.values())) == 1:
        cycles = _of_a_full_mesh(size)
    else:
        unit = min(widths.values(), default=1.0)
        cycles = _packed({edge: round(width / unit) for edge, width in widths.items()}, size)
    return tuple(tuple(order) for cycle in cycles for order in ([cycle, cycle[::-1]] if size > 2 else [cycle]))


def _of_a_full_mesh(size: int) -> list[list[int]]:
    """Return cycles that meet every cable equally often: a zigzag through all members but the last, turned.

    Notes
    -----
    Walecki's construction (Lucas 1892): (n - 1) / 2 cycles meet each of the cables once for odd n; n - 1 cycles meet
    each twice for even n.
    """
    rim = size - 1
    zigzag = [(step + 1) // 2 * (1 if step % 2 else -1) for step in range(rim)]
    turns = rim if size % 2 == 0 else rim // 2
    return [[rim, *((turn + place) % rim for place in zigzag)] for turn in range(turns)] if size > 2 else [[0, 1]]


def _packed(capacity: Mapping[Edge, int], size: int) -> list[list[int]]:
    """Return the most cycles that fit: one after the other, whichever leaves the most room, as far as it goes."""
    near: list[list[int]] = [[] for _ in range(size)]
    for one, other in capacity:
        near[one].append(other)
        near[other].append(one)
    known = list(_cycles(near))
    best: list[list[int]] = []
    waiting: list[tuple[list[list[int]], Counter[Edge], int]] = [([], Counter(), 0)]
    for _ in range(MAX_STEPS):
        if not waiting:
            break
        taken, used, first = waiting.pop()
        best = max(best, taken, key=len)
        for index in range(first, len(known)):
            after = used + Counter(_edges(known[index]))
            if all(after[edge] <= capacity[edge] for edge in after):
                waiting.append(([*taken, known[index]], after, index))
    return best


def _cycles(near: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield the cycles through all members, each in one of its directions."""
    waiting = [[0]]
    for _ in range(MAX_STEPS):
        if not waiting:
            return
        path = waiting.pop()
        if len(path) == len(near):
            if 0 in near[path[-1]] and path[1] < path[-1]:
                yield path
        else:
            waiting += [[*path, member] for member in near[path[-1]] if member not in path]


def _edges(cycle: Sequence[int]) -> list[Edge]:
    return [(min(pair), max(pair)) for pair in zip(cycle, [*cycle[1:], cycle[0]], strict=True)]
