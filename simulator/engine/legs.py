"""What media load: the algorithms that their messages run, and the links that these cross, leg after leg.

Groups of one *shape*, whose members have the same places within their nodes, run the same algorithms, chosen on the
first of them: a library's tuning knows the nodes that a group has, not where in the fabric they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.cost.algorithms import GroupShape
from simulator.cost.collectives import Charge
from simulator.cost.crossings import Hops, crossings, hops_of
from simulator.cost.group import Group
from simulator.cost.repertoire import Repertoire
from simulator.engine.families import Family
from simulator.engine.hashes import Hashes, of_rows
from simulator.program.program import Message
from simulator.topology import Topology

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Recipe = Mapping[Message, tuple[tuple[int, Charge], ...]]
"""For each message over which legs of its medium it flows, one after the other, and what each costs."""


class Legs(NamedTuple):
    """Patterns of hops in which the members of media send; rows in order of the medium and of the number.

    Parameters
    ----------
    medium
        Whose it is.
    number
        Its number among the medium's legs.
    latency
        Seconds of its slowest hop.
    """

    medium: Ints
    number: Ints
    latency: Floats


class Loads(NamedTuple):
    """What legs load; rows in order of the leg, each pair of leg and resource once.

    Parameters
    ----------
    leg
        Row in the table of legs.
    resource
        Number.
    weight
        Load of one unit/s of flow.
    """

    leg: Ints
    resource: Ints
    weight: Floats


class Routed(NamedTuple):
    """All media on their routes.

    Parameters
    ----------
    recipes, recipe
        Ways to send messages, and for each medium which of them is its own.
    legs, loads
        What the media use; resources are the ids of links.
    """

    recipes: tuple[Recipe, ...]
    recipe: Ints
    legs: Legs
    loads: Loads


class _Block(NamedTuple):
    """Media that send in the same patterns: their numbers, their members, their recipe, and the patterns' hops.

    The hops of patterns in which no bytes flow are there no times at all.
    """

    media: Ints
    ranks: Ints
    recipe: int
    patterns: tuple[Hops, ...]


def find_legs(topology: Topology, families: Iterable[Family]) -> Routed:
    """Return what the media of all families, numbered one after the other, use."""
    library = _Library(topology)
    blocks: list[_Block] = []
    count = 0
    for family in families:
        for shape, media in _shapes(topology, family.ranks):
            ranks = family.ranks[media]
            number, patterns = library.recipe(shape, ranks[0], family.messages)
            blocks.append(_Block(count + media, ranks, number, patterns))
        count += len(family.ranks)
    recipe, sizes = np.zeros((2, count), np.int64)
    for block in blocks:
        recipe[block.media] = block.recipe
        sizes[block.media] = len(block.patterns)
    medium = np.repeat(np.arange(count), sizes)
    first = np.cumsum(sizes) - sizes
    latency, crossed = crossings(topology, *_hops(blocks, first), len(medium))
    return Routed(
        tuple(library.recipes),
        recipe,
        Legs(medium, np.arange(len(medium)) - first[medium], latency),
        Loads(crossed.owner, crossed.link, crossed.weight.astype(np.float64)),
    )


def rows_of(column: Ints, values: Ints) -> tuple[Ints, Ints]:
    """Return the rows in which a sorted column has each of some values, and before them which value each row has."""
    first = np.searchsorted(column, values)
    counts = np.searchsorted(column, values, "right") - first
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) + (first + counts - np.cumsum(counts))[which]


def _shapes(topology: Topology, ranks: Ints) -> Iterator[tuple[int, Ints]]:
    """Yield a name of each shape, and the rows of the groups that have it, in the order of the first ones."""
    found, first, shape = np.unique(_places(topology, ranks), return_index=True, return_inverse=True)
    order = np.argsort(shape, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(shape))[:-1])
    for index in np.argsort(first).tolist():
        yield int(found[index]), rows[index]


def _places(topology: Topology, ranks: Ints) -> Hashes:
    """Return a number for where the members of each group are: kinds of node, places in it, who shares a node."""
    kind, node, local = topology.places(ranks)
    keys = np.arange(len(ranks))[:, None] * topology.num_nodes + node
    _, first, which = np.unique(keys.ravel(), return_index=True, return_inverse=True)
    neighbour = first[which].reshape(ranks.shape) % ranks.shape[1]
    parts = (neighbour, kind, local)
    code = np.ravel_multi_index(parts, tuple(int(part.max(initial=0)) + 1 for part in parts))
    return of_rows(code)


class _Library:
    """The communication library: what it does with a message in a group of some shape, worked out once.

    Attributes
    ----------
    recipes
        Those that were given out.
    """

    def __init__(self, topology: Topology) -> None:
        self.recipes: list[Recipe] = []
        self._topology = topology
        self._groups: dict[tuple[int, int], Group] = {}
        self._repertoires: dict[GroupShape, Repertoire] = {}
        self._known: dict[tuple[int, int, tuple[Message, ...]], tuple[int, tuple[Hops, ...]]] = {}
        self._numbers: dict[tuple[tuple[Message, tuple[tuple[int, Charge], ...]], ...], int] = {}

    def recipe(self, shape: int, ranks: Ints, messages: tuple[Message, ...]) -> tuple[int, tuple[Hops, ...]]:
        """Return the number of the recipe for a shape, and the patterns that its legs stand for.

        Parameters
        ----------
        shape
            Its name.
        ranks
            The first group that has it.
        messages
            What is sent.
        """
        key = (shape, len(ranks), messages)
        if key not in self._known:
            if key[:2] not in self._groups:
                self._groups[key[:2]] = Group(self._topology, ranks.tolist(), self._repertoires)
            self._known[key] = self._found(self._groups[key[:2]], messages)
        return self._known[key]

    def _found(self, group: Group, messages: Sequence[Message]) -> tuple[int, tuple[Hops, ...]]:
        numbers: dict[tuple[bytes, bytes], int] = {}
        patterns: list[Hops] = []
        carries: list[bool] = []
        recipe = {}
        for message in messages:
            steps = []
            for phase, charge in group.plan(message.operation, message.size):
                number = numbers.setdefault((phase.sources.tobytes(), phase.destinations.tobytes()), len(numbers))
                if number == len(patterns):
                    patterns.append(hops_of(phase))
                    carries.append(False)
                carries[number] = carries[number] or charge.size > 0.0
                steps.append((number, charge))
            recipe[message] = tuple(steps)
        number = self._numbers.setdefault(tuple(recipe.items()), len(self.recipes))
        if number == len(self.recipes):
            self.recipes.append(recipe)
        weighted = zip(patterns, carries, strict=True)
        return number, tuple(hops._replace(times=hops.times * moves) for hops, moves in weighted)


def _hops(blocks: Iterable[_Block], first: Ints) -> tuple[Hops, Ints]:
    """Return all hops of all media, and the leg of each."""
    none = np.zeros(0, np.int64)
    parts: list[tuple[Ints, Ints, Ints, Ints]] = [(none, none, none, none)]
    for block in blocks:
        sources, destinations, times = map(np.concatenate, zip((none, none, none), *block.patterns, strict=True))
        numbers = np.repeat(np.arange(len(block.patterns)), [len(hops.times) for hops in block.patterns])
        ends = block.ranks[:, sources].ravel(), block.ranks[:, destinations].ravel()
        parts.append((*ends, np.tile(times, len(block.media)), (first[block.media][:, None] + numbers).ravel()))
    sources, destinations, times, owners = map(np.concatenate, zip(*parts, strict=True))
    return Hops(sources, destinations, times), owners
