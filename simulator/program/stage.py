"""A pipeline stage: its segments (the pieces that one instruction runs) and its gradient buckets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from simulator.model.graph import Node, Shard
from simulator.model.layers import Exchange
from simulator.program.instructions import REDUCTIONS, Kind

BORDER = -1
"""Stands for a part of the stage before, or of the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Nodes that run as one instruction: layers between which nothing is communicated, or one exchange.

    Parameters
    ----------
    nodes
        In running order.
    inputs, outputs
        Tensors read from, and needed by, other segments or stages.
    forward, backward, again
        What runs it forward, backward and forward again; B stands for I as well, and None for nothing: an exchange may
        leave a tensor or a gradient as it is.
    makers
        Segments whose forward makes what it reads; ``BORDER`` where it was received.
    takers
        Segments whose backward makes the gradients of its outputs; ``BORDER`` where they are received.
    unit
        Number, in its stage, of the part that runs again as a whole or not at all.
    block
        Number, in its stage, of the block that it is a part of; 0 for all in plans that treat no block apart.
    recomputed
        Its forward keeps nothing for backward but the inputs of its unit, and runs again.
    inner
        Outputs that nothing outside its unit reads, under whatever name.
    passing
        Of an exchange: backward does not read what it makes, so that this is let go of behind its last reader.
    consumed
        Of an exchange that makes a tensor of its own: what it reads, if nothing else does.
    ends
        Segments whose outputs nobody reads any more after its backward.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    forward: Kind | None
    backward: Kind | None
    again: Kind | None = None
    makers: tuple[int, ...] = ()
    takers: tuple[int, ...] = ()
    unit: int = 0
    block: int = 0
    recomputed: bool = False
    inner: tuple[str, ...] = ()
    passing: bool = False
    consumed: tuple[str, ...] = ()
    ends: tuple[int, ...] = ()

    @property
    def is_made_again(self) -> bool:
        """Whether what it exchanges is let go of after forward, and exchanged again before the backward that reads it.

        In a unit that is recomputed as a whole it is not let go of a second time.
        """
        return self.again is not None and not self.recomputed

    @property
    def exchange(self) -> Exchange | None:
        """What it exchanges, unless it computes."""
        layer = self.nodes[0].layer
        return layer if isinstance(layer, Exchange) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Parameter gradients that are reduced together; in sharded plans those of one block, whose parameters are too.

    Parameters
    ----------
    nodes
        Names of the nodes whose parameters it holds, in backward order.
    elements
        Scalars in it; where it is sharded, with those that fill it up to a multiple of the replicas.
    segment
        Segment whose backward completes it.
    axis
        Whose groups hold replicas of it: ``dp``, or ``dp_expert`` of experts.
    """

    nodes: tuple[str, ...]
    elements: int
    segment: int
    axis: str = "dp"

    @property
    def reduction(self) -> Kind:
        """What sums it over its replicas."""
        return REDUCTIONS[self.axis]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One pipeline stage of one rank.

    Parameters
    ----------
    segments
        In forward order.
    receives, sends
        Tensors that enter from the stage before and leave to the next.
    gradients_in, gradients_out
        Those whose gradients come back from the next stage, and go back to the one before.
    sent_by, returned_by
        Segments whose forward makes what is sent, and whose backward makes the gradients that go back.
    buckets
        Gradient buckets in the order in which backward completes them.
    weights_beside
        For exchanges of gradients the segment whose weight gradients are computed meanwhile (``tp_overlap``).
    """

    index: int
    segments: tuple[Segment, ...]
    receives: tuple[str, ...]
    sends: tuple[str, ...]
    gradients_in: tuple[str, ...]
    gradients_out: tuple[str, ...]
    sent_by: tuple[int, ...]
    returned_by: tuple[int, ...]
    buckets: tuple[Bucket, ...]
    weights_beside: Mapping[int, int] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in running order."""
        return tuple(node for segment in self.segments for node in segment.nodes)

    @property
    def num_parameters(self) -> int:
        """Trainable scalars of one rank."""
        return sum(node.layer.num_parameters for node in self.nodes)

    @cached_property
    def partial(self) -> tuple[Node, ...]:
        """The nodes whose parameters' gradients are sums over some of the tokens on each tensor-parallel rank."""
        return tuple(node for node in self.nodes if node.shard is Shard.SEQUENCE)

    @cached_property
    def computing(self) -> tuple[int, ...]:
        """The segments that compute."""
        return tuple(part for part, segment in enumerate(self.segments) if not segment.exchange)

    @cached_property
    def forward(self) -> tuple[int, ...]:
        """The segments for which something runs forward."""
        return tuple(part for part, segment in enumerate(self.segments) if segment.forward)

    @cached_property
    def backward(self) -> tuple[int, ...]:
        """The segments for which something runs backward, in that order."""
        return tuple(part for part, segment in reversed(list(enumerate(self.segments))) if segment.backward)

    def unit_of(self, part: int) -> range:
        """Return the segments of the unit that a segment belongs to."""
        units = [segment.unit for segment in self.segments]
        first = units.index(units[part])
        return range(first, first + units.count(units[part]))

    def last_computing(self, part: int) -> int:
        """Return the last segment that computes of the unit that a segment belongs to; itself if none does."""
        unit = self.unit_of(part)
        return max((other for other in self.computing if other in unit), default=part)

    def sharded_buckets(self, part: int) -> tuple[int, ...]:
        """Return the buckets of a segment's block in a sharded plan: its experts' may be one of their own."""
        block = self.segments[part].block
        return tuple(i for i, bucket in enumerate(self.buckets) if self.segments[bucket.segment].block == block)

    @cached_property
    def last_readers(self) -> dict[int, int]:
        """For each exchange whose result is let go of after forward the last segment that reads it."""
        return {
            part: max(other for other in self.computing if part in self.segments[other].makers)
            for part, segment in enumerate(self.segments)
            if segment.is_made_again or segment.passing
        }

    @cached_property
    def drops(self) -> tuple[tuple[str, ...], ...]:
        """For each segment what is let go of after its forward.

        At the end of a unit that keeps nothing, what only that read; behind the last reader of an exchange whose result
        backward does not read, or that is made again, that result.
        """
        return tuple(tuple(self._drops(part)) for part in range(len(self.segments)))

    def _drops(self, part: int) -> Iterator[str]:
        for exchange, last in self.last_readers.items():
            if last == part:
                yield from self.segments[exchange].outputs
        unit = self.unit_of(part)
        if not self.segments[part].recomputed or part < self.last_computing(part):
            return
        needed = {maker for other in unit if other > part for maker in self.segments[other].makers}
        for other in unit:
            if other <= part and other not in needed and self.segments[other].forward:
                yield from self.segments[other].inner
