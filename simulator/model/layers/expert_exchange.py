"""The way of rows to the ranks that hold their experts, and back: an all-to-all whose parts the router chooses."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulator.model.layers.base import Shape
from simulator.model.layers.exchange import Exchange

ROUNDING_DIGITS = 6
"""Digits behind the point that a number of rows keeps on its way back, so that rounding loses none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertExchange(Exchange):
    """Rows (rows, hidden) go to the ranks of their experts, or back: as many as the busiest rank has.

    Parameters
    ----------
    load_imbalance
        Rows of the busiest rank over the mean of all ranks, 1 or more. Every rank waits for it, so it stands for all.
    returns
        Whether this is the way back.
    top_k, num_experts
        Rows of a token, and experts that they may go to, where a token is sent once to each node and rank that holds
        some of its experts; 0 where each row is sent on its own.
    """

    load_imbalance: float = 1.0
    returns: bool = False
    top_k: int = 0
    num_experts: int = 0

    def sent(self, operation: str, size: float) -> tuple[str, float]:
        """Return an all-to-all of all rows, or the dispatch of the tokens behind them."""
        return (f"dispatch:{self.top_k}/{self.num_experts}", size / self.top_k) if self.top_k else (operation, size)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return (rows of the busiest rank, hidden), or those that had come from each rank."""
        ((rows, *rest),) = inputs
        if self.returns:
            return (math.floor(round(rows / self.load_imbalance, ROUNDING_DIGITS)), *rest)
        return (math.ceil(round(rows * self.load_imbalance, ROUNDING_DIGITS)), *rest)
