"""Simulate one of many: ranks that provably live the same step are represented by one.

Nothing is assumed about the cluster: a slow device, an uneven node or a cable of its own simply makes more classes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.engine.hashes import Hashes
from simulator.engine.legs import Ints
from simulator.engine.processors import NOBODY
from simulator.engine.refine import apart, refine
from simulator.engine.system import System
from simulator.program.instructions import Lane


@dataclass(frozen=True, slots=True)
class RankClass:
    """Ranks with one timeline: the lowest one represents them.

    Parameters
    ----------
    representative, members
        Which ranks.
    media
        Class of the medium behind each lane.
    weights
        Resource class -> load of one resource of it, which can only be a processor, by all of these ranks that compute.
    speed
        Units/s at which one of them computes when nobody else uses its processor.
    """

    representative: int
    members: tuple[int, ...]
    media: Mapping[Lane, int]
    weights: Mapping[int, float]
    speed: float


@dataclass(frozen=True, slots=True)
class MediumClass:
    """Media that carry the same messages at the same times.

    Parameters
    ----------
    representative
        Index of one of them.
    participants
        Number of distinct (rank class, lane) that must come before a message starts.
    legs
        For each leg resource class -> load of one resource of it by *all* media of this class.
    private
        No other class of media or ranks uses these resources, so messages take constant time.
    """

    representative: int
    participants: int
    legs: tuple[Mapping[int, float], ...]
    private: bool


@dataclass(frozen=True, slots=True)
class Folded:
    """The quotient system."""

    ranks: tuple[RankClass, ...]
    media: tuple[MediumClass, ...]
    capacities: tuple[float, ...]


class _Classes(NamedTuple):
    """Classes in the order of their first members: the first member of each, and the class of every member."""

    first: Ints
    of: Ints

    @property
    def is_first(self) -> NDArray[np.bool_]:
        """Whether each member is the first of its class."""
        result = np.zeros(len(self.of), dtype=bool)
        result[self.first] = True
        return result


def fold(system: System, labels: Ints, enabled: bool = True) -> Folded:
    """Return the quotient of a system by its coarsest equitable partition, or the system itself.

    Parameters
    ----------
    system
        Ranks, media and resources.
    labels
        For each rank a number for what it runs and on what: its pipeline coordinate and device. Equal labels are a
        promise that equal surroundings make equal timelines.
    enabled
        False keeps every rank apart.
    """
    colours = refine(system, labels) if enabled else apart(system, len(labels))
    ranks, media, resources = map(_classes, colours)
    legs = _legs(system, media, resources)
    used = [set().union(*each) for each in legs]
    computing = _computing(system, ranks, resources)
    users = Counter(resource for loads in (*used, *computing.values()) for resource in loads)
    roles, participants = _roles(system, ranks, media)
    order = np.argsort(ranks.of, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(ranks.of))[:-1])
    return Folded(
        ranks=tuple(
            RankClass(
                representative=first,
                members=tuple(group.tolist()),
                media=roles[colour],
                weights=computing[colour],
                speed=1.0 / system.processor_weights.item(first),
            )
            for colour, (first, group) in enumerate(zip(ranks.first.tolist(), groups, strict=True))
        ),
        media=tuple(
            MediumClass(
                representative=first,
                participants=len(participants[colour]),
                legs=legs[colour],
                private=all(users[resource] == 1 for resource in used[colour]),
            )
            for colour, first in enumerate(media.first.tolist())
        ),
        capacities=tuple(system.capacities[resources.first].tolist()),
    )


def _classes(colours: Hashes) -> _Classes:
    _, first, of = np.unique(colours, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return _Classes(first[order], rank[of])


def _legs(system: System, media: _Classes, resources: _Classes) -> list[tuple[dict[int, float], ...]]:
    """Return for each leg of each class of media the load that all of them are to one resource of each class."""
    legs, loads = system.legs, system.loads
    numbers = np.bincount(legs.medium, minlength=system.num_media)[media.first]
    found: list[tuple[dict[int, float], ...]] = [tuple({} for _ in range(number)) for number in numbers.tolist()]
    rows = resources.is_first[loads.resource]
    leg = loads.leg[rows]
    columns = (media.of[legs.medium[leg]], legs.number[leg], resources.of[loads.resource[rows]], loads.weight[rows])
    for medium, number, resource, weight in zip(*(column.tolist() for column in columns), strict=True):
        weights = found[medium][number]
        weights[resource] = weights.get(resource, 0.0) + weight
    return found


def _computing(system: System, ranks: _Classes, resources: _Classes) -> dict[int, dict[int, float]]:
    """Return for each class of ranks the load that all of them are to one processor of each class."""
    weights: dict[int, dict[int, float]] = {colour: {} for colour in range(len(ranks.first))}
    rows = system.processors != NOBODY
    rows[rows] = resources.is_first[system.processors[rows]]
    columns = (ranks.of[rows], resources.of[system.processors[rows]], system.processor_weights[rows])
    for rank, processor, weight in zip(*(column.tolist() for column in columns), strict=True):
        weights[rank][processor] = weights[rank].get(processor, 0.0) + weight
    return weights


def _roles(
    system: System, ranks: _Classes, media: _Classes
) -> tuple[dict[int, dict[Lane, int]], dict[int, set[tuple[int, int]]]]:
    """Return the class of medium behind each lane of each class of ranks, and who takes part in each class of media."""
    roles: dict[int, dict[Lane, int]] = defaultdict(dict)
    participants: dict[int, set[tuple[int, int]]] = defaultdict(set)
    is_first_rank, is_first_medium = ranks.is_first, media.is_first
    rows = is_first_rank[system.members.rank] | is_first_medium[system.members.medium]
    columns = (column[rows].tolist() for column in system.members)
    for medium, rank, lane in zip(*columns, strict=True):
        colour, taker = media.of.item(medium), ranks.of.item(rank)
        if is_first_rank[rank]:
            roles[taker][system.lanes[lane]] = colour
        if is_first_medium[medium]:
            participants[colour].add((taker, lane))
    return roles, participants
