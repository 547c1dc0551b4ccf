"""All links of a cluster: numbers in tables that repeat, names and objects made when asked for."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from simulator.topology.layout import Ints
from simulator.topology.link import Link

LISTED = 2**22
"""Links up to which their numbers are listed one by one: 32 MiB a column."""


class Ends(NamedTuple):
    """Endpoints of a link, and what tells it from parallel ones (`#1`); its name is made of the three."""

    source: str
    destination: str
    suffix: str = ""

    @property
    def name(self) -> str:
        """The link's name."""
        return f"{self.source}->{self.destination}{self.suffix}"


@dataclass(frozen=True, slots=True)
class Section:
    """A pattern of links that repeats, such as the links of equal nodes or the trunks of equal leaves.

    Parameters
    ----------
    repeats : int
        How many times the pattern stands there.
    numbers : Sequence[tuple[float, float]]
        Bandwidth (bytes/s) and latency (seconds) of each link of the pattern.
    ends : Callable[[int], Ends]
        Endpoints of the i-th link of the section.
    """

    repeats: int
    numbers: Sequence[tuple[float, float]]
    ends: Callable[[int], Ends]

    @property
    def size(self) -> int:
        """Number of links; not `len`, which cannot say how absurd an absurd size is."""
        return self.repeats * len(self.numbers)


class Links(Sequence[Link]):
    """The links of all sections, one after the other; a link's id is its position.

    Parameters
    ----------
    sections : Sequence[Section]
        In the order of the ids.
    factors : Mapping[int, float]
        What is left of the bandwidth of degraded links, by id; a fraction.
    """

    def __init__(self, sections: Sequence[Section], factors: Mapping[int, float] | None = None) -> None:
        self._sections = [section for section in sections if section.size]
        self._factors = dict(factors or {})
        self._first = [0, *accumulate(section.size for section in self._sections)]
        self._made: dict[int, Link] = {}
        self._columns: dict[int, NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return self._first[-1]

    @overload
    def __getitem__(self, index: int) -> Link: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Link]: ...
    def __getitem__(self, index: int | slice) -> Link | Sequence[Link]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        link = self._made.get(index)
        return link if link is not None else self._make(index)

    def _make(self, index: int) -> Link:
        position = range(len(self))[index]  # negative and out-of-range indices behave as in a list
        section, inner = self._locate(position)
        ends, (bandwidth, latency) = section.ends(inner), self._numbers(position)
        made = Link(
            name=ends.name,
            source=ends.source,
            destination=ends.destination,
            bandwidth=bandwidth * self._factors.get(position, 1.0),
            latency=latency,
        )
        self._made[position] = made
        return made

    def _locate(self, position: int) -> tuple[Section, int]:
        k = bisect_right(self._first, position) - 1
        return self._sections[k], position - self._first[k]

    def name(self, position: int) -> str:
        """The link's name, without making the link."""
        section, inner = self._locate(position)
        return section.ends(inner).name

    def degraded(self, factors: Mapping[int, float]) -> "Links":
        """The same links, some with a fraction of their bandwidth."""
        return Links(self._sections, factors)

    def bandwidths(self, ids: Ints) -> NDArray[np.float64]:
        """Bytes/s of many links; float64 of the shape of `ids`."""
        found = self._column(ids, 0)
        if self._factors:
            keys = np.array(sorted(self._factors))
            at = np.minimum(np.searchsorted(keys, ids), len(keys) - 1)
            factors = np.array([self._factors[key] for key in keys.tolist()])
            found = np.where(keys[at] == ids, found * factors[at], found)
        return found

    def latencies(self, ids: Ints) -> NDArray[np.float64]:
        """Seconds of many links; float64 of the shape of `ids`."""
        return self._column(ids, 1)

    def _column(self, ids: Ints, column: int) -> NDArray[np.float64]:
        if len(self) <= LISTED:
            return self._listed(column)[ids]
        table = np.array([numbers[column] for section in self._sections for numbers in section.numbers])
        periods = np.array([len(section.numbers) for section in self._sections])
        offsets = np.cumsum(periods) - periods
        firsts = np.array(self._first)
        section = np.searchsorted(firsts, ids, side="right") - 1
        values: NDArray[np.float64] = table[offsets[section] + (ids - firsts[section]) % periods[section]]
        return values

    def _listed(self, column: int) -> NDArray[np.float64]:
        if column not in self._columns:
            own = [np.tile([each[column] for each in one.numbers], one.repeats) for one in self._sections]
            self._columns[column] = np.concatenate([np.zeros(0), *own])
        return self._columns[column]

    def classes(self) -> list[tuple[int, int, float, float]]:
        """Links that share bandwidth and latency: (id of the first, how many, bytes/s, seconds) of each class."""
        counts: dict[tuple[float, float], list[int]] = {}
        for first, section in zip(self._first, self._sections, strict=False):
            for j, numbers in enumerate(section.numbers):
                counts.setdefault(numbers, [first + j, 0])[1] += section.repeats
        for position, factor in sorted(self._factors.items()):
            bandwidth, latency = self._numbers(position)
            counts[bandwidth, latency][1] -= 1
            counts.setdefault((bandwidth * factor, latency), [position, 0])[1] += 1
        return [
            (self._first_of(first, numbers), count, *numbers) for numbers, (first, count) in counts.items() if count
        ]

    def _first_of(self, first: int, numbers: tuple[float, float]) -> int:
        """The first link from `first` on that has these numbers; degraded ones have others than their section says."""
        if not self._factors:
            return first
        has = (i for i in range(first, len(self)) if self._numbers(i)[1] == numbers[1])
        return next(i for i in has if self._numbers(i)[0] * self._factors.get(i, 1.0) == numbers[0])

    def _numbers(self, position: int) -> tuple[float, float]:
        section, inner = self._locate(position)
        return section.numbers[inner % len(section.numbers)]


def listed_links(links: Sequence[Link]) -> Links:
    """Links that are all there already, as one section."""
    ends = [Ends(link.source, link.destination) for link in links]
    numbers = [(link.bandwidth, link.latency) for link in links]
    return Links([Section(1, numbers, ends.__getitem__)])
