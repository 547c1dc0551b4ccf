"""Whether a plan was predicted well enough, as far as the rounds can tell."""

from __future__ import annotations

from enum import StrEnum

from simulator.results.compare import Comparison


class Verdict(StrEnum):
    """What the interval of an error says of a tolerance."""

    PASSES = "passes"
    FAILS = "fails"
    UNDECIDED = "undecided"


RULE = (
    "a plan passes only if the whole 95 % interval of its error lies within the tolerance, fails if all of it lies "
    "outside, and is undecided otherwise; a single round has no interval and decides nothing"
)


def judge(comparison: Comparison, tolerance: float) -> Verdict:
    """Return the verdict by ``RULE``; ``tolerance`` is a fraction (1), either way."""
    if comparison.error_interval is None:
        return Verdict.UNDECIDED
    low, high = comparison.error_interval
    if -tolerance <= low and high <= tolerance:
        return Verdict.PASSES
    return Verdict.FAILS if low > tolerance or high < -tolerance else Verdict.UNDECIDED
