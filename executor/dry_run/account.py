"""What one rank does in a step, as exact numbers: the same form for what a Program says and for what was seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from simulator.program.instructions import Instruction, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a rank.

    Parameters
    ----------
    operation
        ``all_reduce``, ``all_gather``, ``reduce_scatter``, ``all_to_all``, ``shift``, ``send`` or ``receive``.
    size
        Bytes of the rank's buffer; where ranks hold parts, of all parts together.
    ranks
        Global ranks that take part; of a send or a receive the one at the other end.
    axis
        Of their group; empty for sends and receives.
    """

    operation: str
    size: float
    ranks: tuple[int, ...]
    axis: str = ""

    def __str__(self) -> str:
        with_whom = f"over {self.axis}" if self.axis else f"rank {self.ranks[0]}"
        others = f" ({self.ranks[0]} to {self.ranks[-1]}, {len(self.ranks)} ranks)" if self.axis else ""
        return f"{self.operation} {self.size:.0f} B {with_whom}{others}"


@dataclass(slots=True, kw_only=True)
class Entry:
    """What one instruction does.

    Parameters
    ----------
    flops
        Of matrix products and attention, also those that run again what forward did.
    messages
        In the order in which they begin.
    held
        Bytes of activations after it; None of what does not compute.
    """

    flops: float = 0.0
    messages: list[Message] = field(default_factory=list)
    held: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A step of one rank.

    Parameters
    ----------
    rank
        Global rank.
    entries
        By instruction, in the order of the list.
    memory
        Bytes by what they hold: ``parameters``, ``gradients``, ``optimizer_state``.
    """

    rank: int
    entries: Mapping[Instruction, Entry]
    memory: Mapping[str, float]

    def quantities(self) -> dict[str, float]:
        """Return the sums that are compared: FLOPs by kind, messages and bytes by operation and axis or peer, bytes."""
        sums: Counter[str] = Counter()
        for instruction, entry in self.entries.items():
            if instruction.stream is Stream.COMPUTE and entry.flops:
                sums[f"FLOPs of {instruction.kind.value}"] += entry.flops
            for message in entry.messages:
                where = message.axis or f"rank {message.ranks[0]}"
                sums[f"{message.operation} {where}, messages"] += 1
                sums[f"{message.operation} {where}, bytes"] += message.size
        sums["activations at their peak, bytes"] = peak(self.entries.values())
        return {**sums, **{f"{name.replace('_', ' ')}, bytes": size for name, size in self.memory.items()}}


def peak(entries: Iterable[Entry]) -> float:
    """Return the most bytes of activations that are held after any instruction."""
    return max((entry.held for entry in entries if entry.held is not None), default=0.0)
