"""Legal values next to one that is not."""

from __future__ import annotations

from collections.abc import Iterable


def divisors(number: int) -> list[int]:
    """Return the divisors of a positive number, ascending."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def neighbours(wanted: int, legal: Iterable[int]) -> str:
    """Return the legal values next below and above ``wanted`` as text."""
    legal = sorted(set(legal))
    near = [max((v for v in legal if v < wanted), default=None), min((v for v in legal if v > wanted), default=None)]
    return " or ".join(str(value) for value in near if value is not None)
