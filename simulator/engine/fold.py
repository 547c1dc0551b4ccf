"""Simulate one of many: ranks that provably live the same step are represented by one.

Two ranks have identical timelines when they are in the same class of an *equitable partition* of the structure made
of ranks, media and resources, found by colour refinement (Weisfeiler-Leman; Paige and Tarjan 1987). That suffices, for
(1) max-min filling sees only how many flows of each class load a resource, (2) a rendezvous sees only the classes that
take part, (3) programs are equal up to the class of the peer. Nothing is assumed about the cluster: a slow device, an
uneven node or a cable of its own simply makes more classes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.engine.system import System
from simulator.program.instructions import Lane


@dataclass(frozen=True, slots=True)
class RankClass:
    """Ranks with one timeline: the lowest one represents them."""

    representative: int
    members: tuple[int, ...]
    media: Mapping[Lane, int]
    core_weights: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class MediumClass:
    """Media that carry the same messages at the same times.

    Parameters
    ----------
    representative
        Index of one of them.
    participants
        Number of distinct (rank class, lane) that must come before a message starts.
    weights
        Resource class -> load of one resource of it by *all* media of this class.
    private
        No other class of media or ranks uses these resources, so messages take constant time.
    """

    representative: int
    participants: int
    weights: Mapping[int, float]
    private: bool


@dataclass(frozen=True, slots=True)
class Folded:
    """The quotient system."""

    ranks: tuple[RankClass, ...]
    media: tuple[MediumClass, ...]
    capacities: tuple[float, ...]


def fold(system: System, labels: Iterable[Hashable], enabled: bool = True) -> Folded:
    """Return the quotient of a system by its coarsest equitable partition, or the system itself.

    Parameters
    ----------
    system
        Ranks, media and resources.
    labels
        For each rank what it runs and on what: its pipeline coordinate and device. Equal labels are a promise that
        equal surroundings make equal timelines.
    enabled
        False keeps every rank apart.
    """
    labels = list(labels)
    if enabled:
        ranks, media, resources = _refine(system, labels)
    else:
        ranks, media, resources = (list(range(len(x))) for x in (labels, system.media, system.capacities))
    return _quotient(system, ranks, media, resources)


def _number(keys: Iterable[Hashable]) -> list[int]:
    """Replace keys by small numbers in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _refine(system: System, labels: list[Hashable]) -> tuple[list[int], list[int], list[int]]:
    """Split classes until no member can be told from another by its neighbours."""
    ranks = _number(labels)
    media = _number((m.kind, m.path.num_ranks, m.path.latency, m.on_one_host) for m in system.media)
    crossing: list[list[tuple[int, float]]] = [[] for _ in system.capacities]
    for index, medium in enumerate(system.media):
        for resource, weight in medium.weights.items():
            crossing[resource].append((index, weight))
    hosted: dict[int, list[int]] = defaultdict(list)
    for rank, core in enumerate(system.cores):
        if core is not None:
            hosted[core].append(rank)
    resources = _number(zip(system.capacities, (bool(hosted[r]) for r in range(len(crossing))), strict=True))
    classes = 0
    while classes < (classes := len(set(ranks)) + len(set(media)) + len(set(resources))):
        media = _number(
            (
                media[index],
                _multiset((lane, ranks[rank]) for rank, lane in medium.members),
                _multiset((resources[r], weight) for r, weight in medium.weights.items()),
            )
            for index, medium in enumerate(system.media)
        )
        resources = _number(
            (
                resources[r],
                _multiset((media[index], weight) for index, weight in crossing[r]),
                _multiset(ranks[rank] for rank in hosted[r]),
            )
            for r in range(len(crossing))
        )
        ranks = _number(
            (
                ranks[rank],
                tuple((lane, media[index]) for lane, index in roles.items()),
                None if (core := system.cores[rank]) is None else resources[core],
            )
            for rank, roles in enumerate(system.roles)
        )
    return ranks, media, resources


def _multiset(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted(items))


def _quotient(system: System, ranks: list[int], media: list[int], resources: list[int]) -> Folded:
    first_resource: dict[int, int] = {}
    for resource, colour in enumerate(resources):
        first_resource.setdefault(colour, resource)
    representative = {resource: colour for colour, resource in first_resource.items()}
    weights: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    participants: dict[int, set[tuple[int, Lane]]] = defaultdict(set)
    first_medium: dict[int, int] = {}
    for index, medium in enumerate(system.media):
        first_medium.setdefault(media[index], index)
        participants[media[index]].update((ranks[rank], lane) for rank, lane in medium.members)
        for resource, weight in medium.weights.items():
            if resource in representative:
                weights[media[index]][representative[resource]] += weight
    members: dict[int, list[int]] = defaultdict(list)
    core_weights: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for rank, colour in enumerate(ranks):
        members[colour].append(rank)
        core = system.cores[rank]
        if core is not None and core in representative:
            core_weights[colour][representative[core]] += system.core_weight
    users = Counter(resource for loads in weights.values() for resource in loads)
    users.update(resource for loads in core_weights.values() for resource in loads)
    return Folded(
        ranks=tuple(
            RankClass(
                representative=group[0],
                members=tuple(group),
                media={lane: media[index] for lane, index in system.roles[group[0]].items()},
                core_weights=dict(core_weights[colour]),
            )
            for colour, group in members.items()
        ),
        media=tuple(
            MediumClass(
                representative=first_medium[colour],
                participants=len(participants[colour]),
                weights=dict(weights[colour]),
                private=all(users[resource] == 1 for resource in weights[colour]),
            )
            for colour in range(len(first_medium))
        ),
        capacities=tuple(system.capacities[first_resource[colour]] for colour in range(len(first_resource))),
    )
