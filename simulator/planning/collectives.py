"""Collectives on a topology, algorithm by algorithm, as nccl-tests would print them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from simulator.cost.algorithms import OPERATIONS
from simulator.cost.group import BARE, Group, Option, bus_factor
from simulator.errors import Diagnostic, InputError, quote
from simulator.topology import Topology

MAX_RANKS = 2**17
"""Larger groups have more hops to route than an answer may take."""

SMALLEST, GROWTH = 2**10, 4
"""A sweep begins at 1 KiB; each size is four times the one before."""

_RANGE = re.compile(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9})(?:\s*:\s*(\d{1,9}))?)?\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveFigures:
    """One algorithm at one size.

    Parameters
    ----------
    size
        Bytes of each rank's buffer, as nccl-tests counts them.
    algorithm, protocol
        What was predicted.
    seconds
        Time of one call.
    algbw, busbw
        Bytes/s: size over time, and times the factor that nccl-tests uses.
    chosen
        Whether the library would take it at this size.
    """

    size: float
    algorithm: str
    protocol: str
    seconds: float
    algbw: float
    busbw: float
    chosen: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def sweep_sizes(largest: float) -> list[float]:
    """Return the sizes of a sweep up to ``largest`` bytes, which is the last one."""
    sizes = [float(SMALLEST)]
    while sizes[-1] * GROWTH < largest:
        sizes.append(sizes[-1] * GROWTH)
    return [size for size in sizes if size < largest] + [largest]


def compare_algorithms(
    topology: Topology, ranks: Sequence[int], operation: str, sizes: Sequence[float], algorithm: str | None = None
) -> list[CollectiveFigures]:
    """Return the figures of every algorithm at every size, or only of the one that is named.

    Those that the library has come first, the fastest first; then those that run at the links' own speed, which are
    bounds: nothing is known of what they would cost beside the links.

    Raises
    ------
    InputError
        If the operation, the algorithm or the group does not exist.
    """
    with _blaming("--ranks"):
        if len(ranks) > MAX_RANKS:
            raise ValueError(f"{len(ranks):,} ranks are more than the {MAX_RANKS:,} whose hops are routed; name fewer")
        group = Group(topology, ranks)
    with _blaming("--ranks" if operation in OPERATIONS else f"--op {operation}"):
        group.algorithms(operation)
    with _blaming(f"--algorithm {algorithm}"):
        return [
            _figures(option, operation, size, len(ranks), group.choose(operation, size).algorithm)
            for size in sizes
            for option in sorted(group.options(operation, size, algorithm), key=lambda option: option.protocol == BARE)
        ]


@contextmanager
def _blaming(option: str) -> Iterator[None]:
    """Turn a ValueError into an InputError at an option."""
    try:
        yield
    except ValueError as error:
        raise InputError([Diagnostic(option, "", str(error))]) from None


def _figures(option: Option, operation: str, size: float, num_ranks: int, chosen: str) -> CollectiveFigures:
    rate = size / option.seconds if option.seconds else float("inf")
    return CollectiveFigures(
        size=size,
        algorithm=option.algorithm,
        protocol=option.protocol,
        seconds=option.seconds,
        algbw=rate,
        busbw=rate * bus_factor(operation, num_ranks),
        chosen=option.algorithm == chosen,
    )


def parse_ranks(text: str | None, topology: Topology) -> tuple[int, ...]:
    """Return the ranks in ``"0-7,16"`` or ``"0-63:8"``, every eighth; all of the topology where nothing is given.

    Raises
    ------
    InputError
        If the text means something else, or a rank that does not exist.
    """
    if text is None:
        return tuple(range(topology.world_size))
    ranks: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise _wrong_ranks(
                text, f"{quote(part)} is neither a rank nor a range", "write, say, 0-7, 0,8,16 or 0-63:8"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < topology.world_size:
            rule = f"{quote(part)} is no part of the ranks 0 to {topology.world_size - 1} of {topology.name}"
            raise _wrong_ranks(text, rule, "add nodes with --set topology.nodes=..., or name fewer ranks")
        step = int(match[3] or 1)
        if not step:
            raise _wrong_ranks(text, f"{quote(part)}: a step of 0 goes nowhere", "write, say, 0-63:8")
        ranks += range(first, last + 1, step)
    return tuple(ranks)


def _wrong_ranks(text: str, message: str, hint: str) -> InputError:
    return InputError([Diagnostic(f"--ranks {text}", "", message, hint)])
