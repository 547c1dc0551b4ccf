"""Which places of a sequence context-parallel ranks have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from simulator.model.graph import LayerGraph
from simulator.model.layers import BlockAttention, LatentAttention
from simulator.plan.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Places:
    """The places of one rank and of the others.

    Parameters
    ----------
    rank, num_ranks
        Which of the context-parallel ranks.
    sequence
        Tokens of all of them.
    paired
        Whether each has two chunks, the one as near to the begin of the sequence as the other to its end: under a
        causal mask all then have equal work. Otherwise one.
    """

    rank: int
    num_ranks: int
    sequence: int
    paired: bool

    def chunks(self, rank: int) -> list[slice]:
        """Return the chunks of a rank."""
        size = self.sequence // (self.num_ranks * (2 if self.paired else 1))
        numbers = [rank, 2 * self.num_ranks - 1 - rank] if self.paired else [rank]
        return [slice(number * size, (number + 1) * size) for number in numbers]

    def of(self, rank: int) -> Tensor:
        """Return the places of a rank, in its order."""
        return torch.cat([torch.arange(chunk.start, chunk.stop) for chunk in self.chunks(rank)])

    @cached_property
    def own(self) -> Tensor:
        """Places of this rank."""
        return self.of(self.rank)

    @cached_property
    def gathered(self) -> Tensor:
        """Places of all ranks, one behind the other."""
        return torch.cat([self.of(rank) for rank in range(self.num_ranks)])


def places_of(graph: LayerGraph, plan: Plan, rank: int) -> Places | None:
    """Return the places of a rank, or None where each has whole sequences.

    Parameters
    ----------
    graph
        Of one rank.
    plan
        How its sequences are shared.
    rank
        Its place along ``cp``.
    """
    if plan.cp == 1:
        return None
    paired = plan.context_parallel != "all_to_all" and any(
        node.layer.causal for node in graph.nodes if isinstance(node.layer, BlockAttention | LatentAttention)
    )
    return Places(rank=rank, num_ranks=plan.cp, sequence=graph.input_shape[0] * plan.cp, paired=paired)
