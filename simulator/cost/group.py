"""What an operation on a group of ranks takes on a topology: algorithms over routes, and which of them is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.cost.algorithms import Algorithm, GroupShape, Phase
from simulator.cost.collectives import Charge, charges
from simulator.cost.crossings import crossings, hops_of
from simulator.cost.repertoire import Repertoire, nearest, shape_of
from simulator.errors import quote
from simulator.topology import Protocol, Topology

BARE = "bare"
"""Name of the protocol in which algorithms run at the links' own latency and bandwidth."""


@dataclass(frozen=True, slots=True)
class Leg:
    """A phase on its routes, for a size: latency passes, then bytes flow.

    Parameters
    ----------
    latency
        Seconds of all its steps before bytes flow.
    loads
        Link id -> hops that cross it in the same step.
    size
        Bytes that each hop carries in all its steps, with what the protocol adds.
    """

    latency: float
    loads: Mapping[int, float]
    size: float


@dataclass(frozen=True, slots=True)
class Option:
    """One way to do an operation.

    Parameters
    ----------
    algorithm, protocol
        Names.
    seconds
        Its time when nothing else uses the links.
    legs
        What it sends, in order.
    """

    algorithm: str
    protocol: str
    seconds: float
    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True)
class RoutedPhase:
    """A phase on its routes, for any size.

    Parameters
    ----------
    phase
        What is sent.
    latency
        Seconds of one step: the slowest hop.
    loads
        Link id -> hops that cross it in the same step.
    pace
        Seconds for each byte of S, all steps together, while nothing else uses the links.
    """

    phase: Phase
    latency: float
    loads: Mapping[int, float]
    pace: float


class Group:
    """A process group on a topology; it keeps the routes of every algorithm that was asked for.

    Parameters
    ----------
    topology
        Where it runs.
    ranks
        Its members in order; the first one is the root of a broadcast.
    known
        Repertoires of shapes, to which that of a new shape is added.

    Raises
    ------
    ValueError
        If there are fewer than two ranks, one is there twice, or one does not exist.
    """

    def __init__(
        self, topology: Topology, ranks: Sequence[int], known: dict[GroupShape, Repertoire] | None = None
    ) -> None:
        if len(ranks) < 2 or len(set(ranks)) < len(ranks):
            raise ValueError(f"a group has at least two different ranks, not {quote(', '.join(map(str, ranks)))}")
        self.topology = topology
        self.ranks = tuple(ranks)
        self.shape = shape_of(topology, self.ranks)
        self._repertoire = ({} if known is None else known).setdefault(self.shape, Repertoire(self.shape))
        self._routed: dict[tuple[str, str], tuple[RoutedPhase, ...]] = {}

    def algorithms(self, operation: str) -> list[Algorithm]:
        """Return all algorithms that do the operation for a group like this one; see `Repertoire.algorithms`."""
        return self._repertoire.algorithms(operation)

    def options(self, operation: str, size: float, algorithm: str | None = None) -> list[Option]:
        """Return every algorithm in its fastest protocol, the fastest first; or only the one that is named.

        Parameters
        ----------
        operation
            One of `OPERATIONS`.
        size
            Bytes of each rank's buffer as nccl-tests counts them: the whole input of a reduce-scatter, the whole
            output of an all-gather, what a rank sends in an all-to-all.
        algorithm
            Name of the only one wanted.

        Raises
        ------
        ValueError
            If there is no such operation, or no such algorithm for it and this group.
        """
        found = self.algorithms(operation)
        if algorithm is not None:
            names = [each.name for each in found]
            if algorithm not in names:
                raise ValueError(f"{quote(algorithm)} does no {operation} here; {nearest(algorithm, names)}")
            found = [each for each in found if each.name == algorithm]
        priced = [[self._priced(*pair, size) for pair in self._in_protocols(each)] for each in found]
        best = [min(options, key=lambda option: option.seconds) for options in priced]
        return sorted(best, key=lambda option: option.seconds)

    def choose(self, operation: str, size: float) -> Option:
        """Return what the communication library does: the topology's choice, or else the fastest that it has.

        The library has the algorithms whose protocols the topology lists; where it lists none for the operation, those
        that NCCL has.
        """
        algorithm, protocol = self._chosen(operation, size)
        return self._priced(algorithm, protocol, size)

    def plan(self, operation: str, size: float) -> list[tuple[Phase, Charge]]:
        """Return what the library sends, phase after phase, and what that costs on any routes.

        Routes are looked at only where there is something to choose.
        """
        algorithm, protocol = self._chosen(operation, size)
        phases = self._repertoire.phases(operation, algorithm.name)
        return list(zip(phases, charges(phases, protocol, size, self._own(operation, size)), strict=True))

    def _chosen(self, operation: str, size: float) -> tuple[Algorithm, Protocol]:
        candidates = self._candidates(operation)
        if len(candidates) == 1:
            return candidates[0]
        return min(candidates, key=lambda pair: self._priced(pair[0], pair[1], size).seconds)

    def _candidates(self, operation: str) -> list[tuple[Algorithm, Protocol]]:
        """Return the algorithms among which the library chooses, in their protocols."""
        named = self.topology.collectives.choice.get(operation)
        applicable = {each.name: each for each in self.algorithms(operation)}
        known = {each.algorithm for each in self._protocols(operation)} & applicable.keys()
        if named in applicable:
            known = {named}
        names = known or {name for name, each in applicable.items() if each.in_libraries}
        return [pair for name in sorted(names) for pair in self._in_protocols(applicable[name])]

    def routed(self, operation: str, algorithm: str) -> tuple[RoutedPhase, ...]:
        """Return the phases of an algorithm on their routes."""
        key = (operation, algorithm)
        if key not in self._routed:
            self._routed[key] = tuple(self._route(phase) for phase in self._repertoire.phases(*key))
        return self._routed[key]

    def _protocols(self, operation: str) -> list[Protocol]:
        listed = self.topology.collectives.protocols
        own = [protocol for each in self.algorithms(operation) for protocol in each.protocols]
        size, nodes = len(self.ranks), len(set(self.shape.nodes))
        return [each for each in (*listed, *own) if each.covers(operation, size, nodes)]

    def _in_protocols(self, algorithm: Algorithm) -> list[tuple[Algorithm, Protocol]]:
        listed = [each for each in self._protocols(algorithm.operation) if each.algorithm == algorithm.name]
        bare = Protocol(algorithm=algorithm.name, name=BARE, source="the links alone")
        return [(algorithm, protocol) for protocol in listed or [bare]]

    def _own(self, operation: str, size: float) -> float:
        """Return the bytes that a rank copies for itself."""
        return 0.0 if operation in ("send", "shift") else size / len(self.ranks)

    def _priced(self, algorithm: Algorithm, protocol: Protocol, size: float) -> Option:
        found = self.routed(algorithm.operation, algorithm.name)
        costs = charges((each.phase for each in found), protocol, size, self._own(algorithm.operation, size))
        legs, seconds = [], 0.0
        for charge, each in zip(costs, found, strict=True):
            legs.append(Leg(charge.latency(each.latency), each.loads, charge.size))
            seconds += legs[-1].latency + each.pace * size / protocol.efficiency
        return Option(algorithm.name, protocol.name, seconds, tuple(legs))

    def _route(self, phase: Phase) -> RoutedPhase:
        ranks, hops = np.array(self.ranks), hops_of(phase)
        between = hops._replace(sources=ranks[hops.sources], destinations=ranks[hops.destinations])
        (latency,), found = crossings(self.topology, between, np.zeros(len(hops.times), np.int64), 1)
        busiest = float(np.max(found.weight / self.topology.bandwidths(found.link), initial=0.0))
        loads = dict(zip(found.link.tolist(), found.weight.tolist(), strict=True))
        return RoutedPhase(phase, float(latency), loads, phase.repeats * phase.fraction * busiest)


def collective_seconds(
    topology: Topology, ranks: Sequence[int], operation: str, size: float, algorithm: str | None = None
) -> float:
    """Return the seconds of an operation on ``size`` bytes that has the links to itself; see `Group.options`."""
    group = Group(topology, ranks)
    option = group.options(operation, size, algorithm)[0] if algorithm else group.choose(operation, size)
    return option.seconds


def bus_factor(operation: str, num_ranks: int) -> float:
    """Return busbw / algbw: what crosses the busiest link, over S (nccl-tests, doc/PERFORMANCE.md).

    Examples
    --------
    >>> bus_factor("all_reduce", 8), bus_factor("all_gather", 8), bus_factor("broadcast", 8)
    (1.75, 0.875, 1.0)
    """
    if operation in ("broadcast", "send"):
        return 1.0
    return (2 if operation == "all_reduce" else 1) * (num_ranks - 1) / num_ranks
