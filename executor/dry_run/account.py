"""What one rank does in a step, as exact numbers: the same form for what a Program says and for what was seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.program.instructions import Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a rank.

    Parameters
    ----------
    operation
        ``all_reduce``, ``all_gather``, ``reduce_scatter``, ``all_to_all``, ``send`` or ``receive``.
    size
        Bytes of the rank's buffer; where ranks hold parts, of all parts together.
    ranks
        Global ranks that take part; of a send or a receive the one at the other end.
    axis
        Of their group; empty for messages between stages.
    """

    operation: str
    size: float
    ranks: tuple[int, ...]
    axis: str = ""

    @property
    def way(self) -> str:
        """Over which axis, or with which rank."""
        return self.axis or f"rank {self.ranks[0]}"

    def __str__(self) -> str:
        first, number = self.ranks[0], len(self.ranks)
        whom = f"rank {first}" if number == 1 else f"{number} ranks from {first} to {self.ranks[-1]}"
        return f"{self.operation} {self.size:.0f} B {f'over {self.axis}, ' if self.axis else ''}{whom}"


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
        Bytes of activations after it; None of what does not pass over layers.
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
        Bytes by what they hold: ``parameters`` at their most, ``gradients``, ``optimizer state``.
    """

    rank: int
    entries: Mapping[Instruction, Entry]
    memory: Mapping[str, float]

    def quantities(self) -> dict[str, dict[str, float]]:
        """Return the sums that a table shows, by what they are sums of.

        FLOPs by kind of instruction; messages and their bytes by operation and axis or peer; bytes held.
        """
        flops, messages = defaultdict[str, float](float), defaultdict[str, float](float)
        for instruction, entry in self.entries.items():
            if entry.flops:
                flops[f"{instruction.kind.value}, FLOPs"] += entry.flops
            for message in entry.messages:
                messages[f"{message.operation} {message.way}, messages"] += 1
                messages[f"{message.operation} {message.way}, bytes"] += message.size
        held = max((entry.held for entry in self.entries.values() if entry.held is not None), default=0.0)
        memory = {name: {f"{name}, bytes": size} for name, size in self.memory.items()}
        return {"FLOPs": flops, "messages": messages, "activations": {"activations at most, bytes": held}, **memory}
