"""What groups of one shape can do: the algorithms that apply to them, and the phases of each, worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from simulator.cost.algorithms import ALGORITHMS, OPERATIONS, Algorithm, GroupShape, Phase
from simulator.errors import quote


class Repertoire:
    """Algorithms of a shape.

    Parameters
    ----------
    shape
        Where the members of a group are.
    """

    def __init__(self, shape: GroupShape) -> None:
        self.shape = shape
        self._found: dict[str, list[Algorithm]] = {}
        self._phases: dict[tuple[str, str], tuple[Phase, ...]] = {}

    def algorithms(self, operation: str) -> list[Algorithm]:
        """Return all algorithms that do the operation for such a group.

        Raises
        ------
        ValueError
            If there is no such operation, or no algorithm for it and so many ranks.
        """
        if operation not in self._found:
            self._found[operation] = self._find(operation)
        return self._found[operation]

    def phases(self, operation: str, algorithm: str) -> tuple[Phase, ...]:
        """Return what such a group sends, phase after phase."""
        key = (operation, algorithm)
        if key not in self._phases:
            self._phases[key] = ALGORITHMS[key].phases(self.shape)
        return self._phases[key]

    def _find(self, operation: str) -> list[Algorithm]:
        size = self.shape.num_ranks
        if operation not in OPERATIONS:
            raise ValueError(f"{quote(operation)} is no operation; {nearest(operation, OPERATIONS)}")
        if operation == "send" and size != 2:
            raise ValueError(f"send joins two ranks, not {size}; name them, as 0,1")
        found = [each for each in ALGORITHMS.values() if each.operation == operation and each.applies(self.shape)]
        if not found:
            raise ValueError(f"no algorithm does {operation} among {size} ranks; name fewer")
        return found


def nearest(given: str, known: Sequence[str]) -> str:
    """Return what a misspelt name should probably be, or all that it can be."""
    close = get_close_matches(given, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
