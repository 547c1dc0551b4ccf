"""Compute times that vary, as on a machine that others use too.

Ranks that meet wait for the slowest, so a step of varying times is longer than a step of mean times. There is no
formula for that in a pipeline; simulating several draws and taking the median step says it.
"""

from __future__ import annotations

import math
import random


class Noise:
    """Log-normal factors with mean 1, one draw of a step.

    Parameters
    ----------
    jitter
        Relative standard deviation.
    seed
        Equal seeds give equal draws.
    """

    def __init__(self, jitter: float, seed: int) -> None:
        # A log-normal variable with this variance of its logarithm has mean 1 and this relative deviation.
        self._variance = math.log1p(jitter**2)
        self._random = random.Random(seed)

    def factor(self) -> float:
        """Draw the factor of one instruction."""
        return math.exp(self._random.gauss(-self._variance / 2, math.sqrt(self._variance)))
