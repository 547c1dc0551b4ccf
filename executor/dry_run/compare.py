"""Two accounts of one rank, held against each other instruction by instruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from executor.dry_run.account import Account, Entry
from executor.dry_run.known import Known, known
from simulator.load import Inputs
from simulator.program.instructions import Instruction

EVERYTHING = Entry()
"""What an instruction does that is missing."""


class Difference(NamedTuple):
    """One thing that is not as expected.

    Parameters
    ----------
    instruction
        Where; without its micro-batch, for all micro-batches do the same; None of what is true of the whole step.
    what
        ``FLOPs``, ``messages``, ``activations``, ``parameters``, ``gradients`` or ``optimizer state``.
    expected, found
        The two sides.
    """

    instruction: Instruction | None
    what: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One rank of a plan.

    Parameters
    ----------
    expected, found
        What its Program says, and what the executor does.
    known
        Where the executor is known to do otherwise.
    """

    expected: Account
    found: Account
    known: tuple[Known, ...]

    def differences(self) -> Counter[Difference]:
        """Return what differs, and how often."""
        return Counter(_differences(self.expected, self.found))

    def reason(self, difference: Difference) -> str:
        """Return why a difference is known, empty if it is not."""
        return next((each.reason for each in self.known if each.covers(difference.instruction, difference.what)), "")

    @property
    def agrees(self) -> bool:
        """Whether nothing differs but what is known to."""
        return all(self.reason(difference) for difference in self.differences())

    def to_json(self) -> dict[str, Any]:
        """Return plain values: the sums of both sides, and every difference."""
        differences = self.differences()
        wrong = {each.what for each in differences if not self.reason(each)}
        ours, theirs = self.expected.quantities(), self.found.quantities()
        return {
            "rank": self.expected.rank,
            "agrees": not wrong,
            "quantities": [
                {"quantity": name, "expected": left, "found": right, "verdict": _verdict(left, right, what in wrong)}
                for what, sums in ours.items()
                for name in dict.fromkeys((*sums, *theirs[what]))
                for left, right in [(sums.get(name, 0.0), theirs[what].get(name, 0.0))]
            ],
            "differences": [
                {
                    "instruction": str(each.instruction or ""),
                    "what": each.what,
                    "expected": each.expected,
                    "found": each.found,
                    "times": times,
                    "known": self.reason(each),
                }
                for each, times in differences.items()
            ],
        }


def compare(inputs: Inputs, expected: Account, found: Account) -> Comparison:
    """Return both accounts of one rank beside each other."""
    return Comparison(expected=expected, found=found, known=known(inputs))


def _verdict(expected: float, found: float, wrong: bool) -> str:
    if expected == found:
        return "equal"
    return "differs" if wrong else "known"


def _differences(expected: Account, found: Account) -> Iterator[Difference]:
    for instruction in dict.fromkeys((*expected.entries, *found.entries)):
        work = instruction.work()
        if instruction not in expected.entries or instruction not in found.entries:
            told = ("runs", "is missing") if instruction in expected.entries else ("is missing", "runs")
            yield Difference(work, "messages" if work.stream != "compute" else "FLOPs", *told)
        left, right = (each.entries.get(instruction, EVERYTHING) for each in (expected, found))
        if left.flops != right.flops:
            yield Difference(work, "FLOPs", f"{left.flops:.0f}", f"{right.flops:.0f}")
        if left.messages != right.messages:
            yield Difference(work, "messages", *("; ".join(map(str, e.messages)) or "nothing" for e in (left, right)))
        if left.held != right.held:
            yield Difference(work, "activations", f"{left.held} B held after it", f"{right.held} B")
    for name, size in expected.memory.items():
        if size != found.memory[name]:
            yield Difference(None, name, f"{size:.0f} B", f"{found.memory[name]:.0f} B")
