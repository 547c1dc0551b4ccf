"""What a message costs on its way: phase after phase, latency first, then bytes that flow over links."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simulator.cost.algorithms import Phase
from simulator.topology import Protocol


@dataclass(frozen=True, slots=True)
class Charge:
    """What a phase costs in a protocol, for a size, on any routes.

    Parameters
    ----------
    overhead
        Seconds that pass whatever the routes.
    hops
        How many times the latency of its slowest hop passes, as a number that the protocol stretches.
    size
        Bytes that each hop carries in all steps, with what the protocol adds; 0 where only latency passes.
    """

    overhead: float
    hops: float
    size: float

    def latency(self, slowest: float) -> float:
        """Return the seconds before bytes flow, over routes whose longest latency is ``slowest`` seconds."""
        return self.overhead + self.hops * slowest


@dataclass(frozen=True, slots=True)
class Transfer:
    """A phase on its way.

    Parameters
    ----------
    latency
        Seconds before the bytes flow; no link is used meanwhile.
    size
        Bytes that each hop carries.
    leg
        Which of its medium's legs they flow over.
    """

    latency: float
    size: float
    leg: int = 0


def charges(phases: Iterable[Phase], protocol: Protocol, size: float, own: float) -> tuple[Charge, ...]:
    """Return what each phase of an algorithm costs.

    Parameters
    ----------
    phases
        What is sent.
    protocol
        How; what a call costs comes before the first phase.
    size
        S, the buffer's bytes.
    own
        Bytes that each rank copies for itself.
    """
    found, overhead = [], protocol.overhead + own / protocol.copy
    for phase in phases:
        carried = phase.repeats * phase.fraction * size / protocol.efficiency
        found.append(Charge(overhead, phase.repeats * protocol.latency, carried))
        overhead = 0.0
    return tuple(found)


def joined(transfers: Iterable[Transfer]) -> tuple[Transfer, ...]:
    """Return the same transfers with those of nothing but latency added to the ones that follow them."""
    found: list[Transfer] = []
    waited = 0.0
    for transfer in transfers:
        waited += transfer.latency
        if transfer.size:
            found.append(Transfer(waited, transfer.size, transfer.leg))
            waited = 0.0
    return (*found, Transfer(waited, 0.0)) if waited or not found else tuple(found)
