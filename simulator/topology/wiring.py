"""Turns the cables of a topology file into directed links, and says which of them cannot be."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations, product

from simulator.errors import Problems, quote
from simulator.topology.link import Link
from simulator.topology.schema import LinkSchema

MAX_GUESSED = 100
"""Names among which a misspelt one is looked for; among very many that takes long and helps little."""

MAX_LISTED = 8
"""Names that an error shows; the rest is dots."""


class Wiring:
    """The cables of one node or of one graph.

    Parameters
    ----------
    ends : Mapping[str, Sequence[str]]
        What each name in `between` stands for; `device` stands for every device of a node.
    """

    def __init__(self, ends: Mapping[str, Sequence[str]]) -> None:
        self._ends = ends
        self._cables: dict[frozenset[str], tuple[str, Link]] = {}

    def add(self, key: str, cable: LinkSchema, problems: Problems) -> bool:
        """Add one entry of `links`; say at `key` what is wrong with its ends, and return whether it is right."""
        one, other = cable.between
        unknown = [name for name in dict.fromkeys(cable.between) if name not in self._ends]
        for name in unknown:
            problems.add(f"{key}.between", f"{quote(name)} is no device or switch here", suggest(name, self._ends))
        if unknown:
            return False
        if one == other and self._ends[one] == [one]:  # but `[device, device]` joins each to each
            problems.add(f"{key}.between", f"joins {one} to itself")
            return False
        for source, destination in self._pairs(one, other):
            earlier = self._cables.get(frozenset((source, destination)))
            if earlier is not None:
                other_key = f"links.{earlier[0].rpartition('.')[2]}"
                hint = "write parallel cables as one, with the sum of their bandwidth"
                problems.add(f"{key}.between", f"joins {source} and {destination}, as {other_key} does", hint)
                return False
            link = directed(source, destination, cable.bandwidth, cable.latency)
            self._cables[frozenset((source, destination))] = (key, link)
        return True

    def _pairs(self, one: str, other: str) -> list[tuple[str, str]]:
        if one == other:
            return list(combinations(self._ends[one], 2))
        return [(a, b) for a, b in product(self._ends[one], self._ends[other]) if a != b]

    def links(self) -> list[Link]:
        """All directed links: first the directions as written, then all the ways back.

        Routes prefer what comes first, so a ring that is written in one direction is walked in that direction by
        every rank when both ways are equally long.
        """
        there = [link for _, link in self._cables.values()]
        back = [directed(link.destination, link.source, link.bandwidth, link.latency) for link in there]
        return there + back


def directed(source: str, destination: str, bandwidth: float, latency: float) -> Link:
    """The link from one endpoint to another, under its usual name."""
    name = f"{source}->{destination}"
    return Link(name=name, source=source, destination=destination, bandwidth=bandwidth, latency=latency)


def suggest(given: str, known: Mapping[str, object]) -> str:
    """A hint that names the nearest known name, or else the first few of those that there are."""
    close = get_close_matches(given, known, n=1) if len(known) <= MAX_GUESSED else []
    return f"did you mean {close[0]}?" if close else f"known: {listed(list(known))}"


def listed(names: Sequence[str]) -> str:
    """The names, or the first of very many, in one line."""
    return ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
