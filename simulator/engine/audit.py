"""The audit of coflows: every transfer of a collective as a flow of its own, each when what it waits for is done.

Nothing here is used to predict; it shows what the phases leave out. Steps of one member follow each other, but members
do not wait for each other beyond what they receive, so steps may drift apart where phases keep them together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import simpy

from simulator.cost.algorithms import Phase, algorithms_of
from simulator.cost.algorithms.tree import trees
from simulator.cost.group import Group
from simulator.engine.network import Network
from simulator.topology import Topology

TREE_CHUNKS = 16
"""Pieces into which a tree cuts its share of the bytes."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One message between two members of a group.

    Parameters
    ----------
    source, destination
        Members.
    size
        Bytes.
    after
        Transfers (positions in the list) that bring what this one passes on: its latency begins when they are done.
    behind
        Transfers that the source sends first: its bytes flow when theirs are through.
    """

    source: int
    destination: int
    size: float
    after: tuple[int, ...]
    behind: tuple[int, ...]


def step_by_step_seconds(
    topology: Topology, ranks: Sequence[int], operation: str, size: float, algorithm: str
) -> float:
    """Return the seconds of a collective whose transfers are simulated one by one, at the links' own speed.

    Parameters
    ----------
    topology, ranks
        Where.
    operation, size, algorithm
        What, as in `Group.options`; trees run in `TREE_CHUNKS` pieces.
    """
    group = Group(topology, ranks)
    if algorithm == "tree":
        transfers = _of_trees(trees(group.shape), size)
    else:
        named = next(each for each in algorithms_of(operation) if each.name == algorithm)
        transfers = _of_phases(named.phases(group.shape), size)
    return _Player(topology, group.ranks, transfers).seconds()


def _of_phases(phases: Iterable[Phase], size: float) -> list[Transfer]:
    """Return the transfers of phases: a member sends in a step when it has what came in its last one."""
    transfers: list[Transfer] = []
    received: dict[int, tuple[int, ...]] = {}
    sent: dict[int, tuple[int, ...]] = {}
    for phase in phases:
        pairs = list(zip(phase.sources.tolist(), phase.destinations.tolist(), strict=True))
        for _ in range(phase.repeats):
            fresh_in: dict[int, list[int]] = defaultdict(list)
            fresh_out: dict[int, list[int]] = defaultdict(list)
            for source, destination in pairs:
                fresh_in[destination].append(len(transfers))
                fresh_out[source].append(len(transfers))
                after, behind = received.get(source, ()), sent.get(source, ())
                transfers.append(Transfer(source, destination, phase.fraction * size, after, behind))
            received.update({member: tuple(each) for member, each in fresh_in.items()})
            sent.update({member: tuple(each) for member, each in fresh_out.items()})
    return transfers


def _of_trees(plans: Sequence[Sequence[int | None]], size: float) -> list[Transfer]:
    """Return the transfers of all-reduces up and down trees, chunk after chunk."""
    transfers: list[Transfer] = []
    for above in plans:
        share = size / len(plans) / TREE_CHUNKS
        order = _from_the_leaves(above)
        up: dict[int, int] = {}
        down: dict[int, int] = {}
        for _ in range(TREE_CHUNKS):
            arrived: dict[int, list[int]] = defaultdict(list)
            for member in order:
                parent = above[member]
                if parent is None:
                    continue
                arrived[parent].append(len(transfers))
                behind = (up[member],) if member in up else ()
                up[member] = len(transfers)
                transfers.append(Transfer(member, parent, share, tuple(arrived[member]), behind))
            for member in reversed(order):
                parent = above[member]
                if parent is None:
                    continue
                after = (down[parent],) if above[parent] is not None else tuple(arrived[parent])
                behind = (down[member],) if member in down else ()
                down[member] = len(transfers)
                transfers.append(Transfer(parent, member, share, after, behind))
    return transfers


def _from_the_leaves(above: Sequence[int | None]) -> list[int]:
    """Return the members of a tree, each after all below it."""

    def level(member: int) -> int:
        parent = above[member]
        return 0 if parent is None else 1 + level(parent)

    return sorted(range(len(above)), key=level, reverse=True)


class _Player:
    """Runs transfers on shared links.

    Parameters
    ----------
    topology, ranks
        Where the members are.
    transfers
        What is sent.
    """

    def __init__(self, topology: Topology, ranks: Sequence[int], transfers: Sequence[Transfer]) -> None:
        self._env = simpy.Environment()
        self._transfers = transfers
        self._routes = [topology.route(ranks[each.source], ranks[each.destination]) for each in transfers]
        self._numbers: dict[int, int] = {}
        for route in self._routes:
            for link in route.links:
                self._numbers.setdefault(link, len(self._numbers))
        self._network = Network(self._env, [topology.links[link].bandwidth for link in self._numbers])
        self._missing = [len(each.after) for each in transfers]
        # A flow waits for what its source sends first, and for its own latency to pass.
        self._blocked = [len(each.behind) + 1 for each in transfers]
        self._next_after = _inverted([each.after for each in transfers])
        self._next_behind = _inverted([each.behind for each in transfers])

    def seconds(self) -> float:
        """Return when the last transfer is done."""
        for index, count in enumerate(self._missing):
            if not count:
                self._prepare(index)
        self._env.run()
        return float(self._env.now)

    def _prepare(self, index: int) -> None:
        callbacks = self._env.timeout(self._routes[index].latency).callbacks
        assert callbacks is not None
        callbacks.append(lambda _: self._unblock(index))

    def _unblock(self, index: int) -> None:
        self._blocked[index] -= 1
        if self._blocked[index]:
            return
        loads = {self._numbers[link]: 1.0 for link in self._routes[index].links}
        fastest = self._network.alone(loads, float("inf"))
        self._network.start(loads, self._transfers[index].size, fastest, partial(self._finish, index))

    def _finish(self, index: int) -> None:
        for later in self._next_behind[index]:
            self._unblock(later)
        for later in self._next_after[index]:
            self._missing[later] -= 1
            if not self._missing[later]:
                self._prepare(later)


def _inverted(earlier: Sequence[tuple[int, ...]]) -> list[list[int]]:
    later: list[list[int]] = [[] for _ in earlier]
    for index, each in enumerate(earlier):
        for before in each:
            later[before].append(index)
    return later
