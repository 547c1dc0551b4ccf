"""How well a cluster's communication library runs collectives: which algorithms, at what cost beside the links'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

AlgorithmName = Literal[
    "ring", "tree", "in_network", "direct", "hierarchical", "halving_doubling", "pairwise", "whole_ring"
]
OperationName = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "shift", "send"]
Scope = Literal["any", "node", "cluster"]

PLACES: Mapping[Scope, str] = {"node": "within a node", "cluster": "between nodes"}

NO_PROTOCOLS = "no protocols: algorithms run at the links' own latency and bandwidth"


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

    @property
    def where(self) -> tuple[Scope, ...]:
        """Its scopes, one by one."""
        return ("node", "cluster") if self.scope == "any" else (self.scope,)

    def covers(self, operation: str, num_ranks: int, num_nodes: int) -> bool:
        """Whether the library has it for a group of this size."""
        wanted = not self.operations or operation in self.operations
        return wanted and ("node" if num_nodes == 1 else "cluster") in self.where and num_ranks >= self.min_ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Collectives:
    """What a topology says about collectives.

    Parameters
    ----------
    choice
        Operation -> the algorithm to use whatever the size.
    protocols
        The library's; without any, algorithms run at the links' own speed.
    source
        Why these protocols, or why none.
    """

    choice: Mapping[str, str] = field(default_factory=dict, hash=False)
    protocols: tuple[Protocol, ...] = ()
    source: str = ""

    def above(self, lender: Collectives, name: str) -> Collectives:
        """Return these with the lender's below: an algorithm that has own protocols in a scope has no others there."""
        own = {(each.algorithm, where) for each in self.protocols for where in each.where}
        lent = [
            replace(each, scope=where, source=f"taken over from {name}: {each.source}")
            for each in lender.protocols
            for where in each.where
            if (each.algorithm, where) not in own
        ]
        return replace(self, choice={**lender.choice, **self.choice}, protocols=(*self.protocols, *lent))

    def sources(self, scopes: Iterable[Scope]) -> dict[str, str]:
        """Return where the protocols of each scope come from, and why they are taken."""
        found = {f"collectives {PLACES[scope]}": self._source(scope) for scope in scopes}
        return found | ({"collectives": self.source} if found and self.source else {})

    def _source(self, scope: Scope) -> str:
        algorithms: dict[str, dict[str, None]] = {}
        for each in self.protocols:
            if scope in each.where:
                algorithms.setdefault(each.source, {})[each.algorithm] = None
        if len(algorithms) == 1:
            return next(iter(algorithms))
        return "\n".join(f"{', '.join(names)}: {source}" for source, names in algorithms.items()) or NO_PROTOCOLS
