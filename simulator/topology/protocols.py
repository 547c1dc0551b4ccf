"""How well a cluster's communication library runs collectives: which algorithms, at what cost beside the links'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

AlgorithmName = Literal["ring", "tree", "in_network", "direct", "hierarchical", "halving_doubling", "pairwise", "whole_ring"]
OperationName = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "shift", "send"]
Scope = Literal["any", "node", "cluster"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What an algorithm costs in one of the library's protocols, beside the links' bare latency and bandwidth.

    Parameters
    ----------
    algorithm, name
        The algorithm, and how the library calls the protocol (Simple, LL, LL128).
    operations
        Those for which it is used; empty for all that the algorithm does.
    scope
        `node`: only groups within one node; `cluster`: only groups over several.
    min_ranks
        The library does not use it for smaller groups.
    overhead
        Seconds that each call costs.
    latency
        What a step takes, in units of its route's latency.
    efficiency
        Fraction (0 to 1) of the links' bandwidth that payload gets.
    copy
        Bytes/s at which a rank copies its own part (S / n).
    source
        Where the numbers come from.
    """

    algorithm: str
    name: str
    operations: tuple[str, ...] = ()
    scope: Scope = "any"
    min_ranks: int = 2
    overhead: float = 0.0
    latency: float = 1.0
    efficiency: float = 1.0
    copy: float = inf
    source: str

    def covers(self, operation: str, num_ranks: int, num_nodes: int) -> bool:
        """Whether the library has it for a group of this size."""
        where = "node" if num_nodes == 1 else "cluster"
        wanted = not self.operations or operation in self.operations
        return wanted and self.scope in ("any", where) and num_ranks >= self.min_ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Collectives:
    """What a topology says about collectives.

    Parameters
    ----------
    choice
        Operation -> the algorithm to use whatever the size.
    protocols
        The library's; without any, algorithms run at the links' own speed.
    """

    choice: Mapping[str, str] = field(default_factory=dict, hash=False)
    protocols: tuple[Protocol, ...] = ()

    def sources(self) -> dict[str, str]:
        """Return where the protocols come from; those of one source share an entry."""
        shared: dict[str, list[str]] = {}
        for each in self.protocols:
            shared.setdefault(each.source, []).append(f"{each.algorithm} {each.name}")
        return {
            f"protocol {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else ""): source
            for source, names in shared.items()
        }
