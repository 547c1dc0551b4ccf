"""Which ranks compute slower than others that do the same work: a hot GPU, a busy core, a slower memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from simulator.program.instructions import Instruction, Stream
from simulator.results.timeline import Timeline

OUTLIER = 1.3
"""Times its peers' computation from which a rank is named: a choice. It is a note, not a verdict: cores of a machine
whose clock changes differ as much over a few steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Straggler:
    """A rank that holds up its peers.

    Parameters
    ----------
    rank
        Which one.
    seconds
        Of computation in one step, the median over the steps.
    peers
        Ranks that run the same computations.
    typical
        The median of theirs, seconds.
    """

    rank: int
    seconds: float
    peers: tuple[int, ...]
    typical: float


def stragglers(steps: Iterable[Timeline]) -> list[Straggler]:
    """Return the ranks whose computation takes much longer than that of their peers, by rank."""
    works: dict[int, set[Instruction]] = defaultdict(set)
    seconds: dict[int, list[float]] = defaultdict(list)
    for step in steps:
        for rank in step.ranks:
            spans = [span for span in step.of(rank) if span.instruction.stream is Stream.COMPUTE]
            works[rank] |= {span.instruction for span in spans}
            seconds[rank].append(sum(span.end - span.start for span in spans))
    typical = {rank: median(values) for rank, values in seconds.items()}
    groups: dict[frozenset[Instruction], list[int]] = defaultdict(list)
    for rank, instructions in works.items():
        groups[frozenset(instructions)].append(rank)
    return sorted(
        (found for ranks in groups.values() for found in _outliers(ranks, typical)), key=lambda found: found.rank
    )


def _outliers(ranks: Sequence[int], typical: dict[int, float]) -> Iterable[Straggler]:
    for rank in ranks:
        peers = tuple(other for other in ranks if other != rank)
        usual = median(typical[other] for other in peers) if peers else 0.0
        if peers and typical[rank] > OUTLIER * usual:
            yield Straggler(rank=rank, seconds=typical[rank], peers=peers, typical=usual)
