"""Messages between ranks behind one narrow interface: NCCL on GPUs, gloo on CPUs, room for another.

The Program says what is sent when; a transport only moves tensors and returns handles to wait on.
"""

from __future__ import annotations

import datetime
from typing import Protocol

import torch.distributed as dist
from torch import Tensor

from simulator.program.instructions import STREAMS_OF_GROUPS, Stream
from simulator.program.program import Program

_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
"""torch 2.13 gave both new names."""


class Handle(Protocol):
    """Something under way."""

    def wait(self) -> object:
        """Block (gloo) or make the current CUDA stream wait (NCCL) until it is done."""

    def is_completed(self) -> bool:
        """Return whether it is done; gloo never says so of a send or receive."""


class Transport:
    """Process groups of a program.

    Groups are collective to make: every rank must build the transports of a run in the same order. Each direction of
    a pipeline has its own group, so that a message never queues behind traffic the other way. Where ranks run several
    stages, messages are told apart by the border that they cross: gloo has tags for that, NCCL, which matches in order
    alone, gets a group for each border.

    Parameters
    ----------
    program
        Says which ranks meet.
    timeout
        Seconds after which a message that nobody meets is an error; None means torch's default, half an hour for gloo.
    """

    def __init__(self, program: Program, timeout: float | None = None) -> None:
        self._gloo = not dist.is_initialized() or dist.get_backend() == "gloo"
        self._borders = 1 if self._gloo else max(1, len(program.stages) - 1)
        self._groups = {
            stream: _own_group(program, axis, timeout)
            for stream, axis in STREAMS_OF_GROUPS.items()
            if stream in program.collectives
        }
        forward, backward = ([_own_group(program, "pp", timeout) for _ in range(self._borders)] for _ in range(2))
        self._pipelines = {
            Stream.SEND_F: forward,
            Stream.RECV_F: forward,
            Stream.SEND_B: backward,
            Stream.RECV_B: backward,
        }

    def all_reduce(self, stream: Stream, tensor: Tensor, maximum: bool = False) -> Handle:
        """Sum ``tensor`` in place over the group of a stream, or find the largest of each element."""
        operation = dist.ReduceOp.MAX if maximum else dist.ReduceOp.SUM
        return _handle(dist.all_reduce(tensor, operation, group=self._groups[stream], async_op=True))

    def broadcast(self, stream: Stream, tensor: Tensor, root: int) -> Handle:
        """Fill ``tensor`` with that of a member of a stream's group."""
        group = self._groups[stream]
        source = dist.get_process_group_ranks(group)[root]
        return _handle(dist.broadcast(tensor, source, group=group, async_op=True))

    def all_gather(self, stream: Stream, whole: Tensor, part: Tensor) -> Handle:
        """Fill ``whole`` with the parts of a stream's group, rank by rank."""
        return _handle(_all_gather(whole, part, group=self._groups[stream], async_op=True))

    def reduce_scatter(self, stream: Stream, whole: Tensor, part: Tensor) -> Handle:
        """Sum ``whole`` over the group of a stream; only ``part``, this rank's part of it, holds the sum afterwards.

        gloo's reduce-scatter is an all-reduce of a copy, and nobody can ask it whether it is done: the all-reduce
        itself moves the same bytes.
        """
        if self._gloo:
            return self.all_reduce(stream, whole)
        return _handle(_reduce_scatter(part, whole, group=self._groups[stream], async_op=True))

    def all_to_all(
        self, stream: Stream, received: Tensor, parts: Tensor, sizes: tuple[list[int], list[int]] | None = None
    ) -> Handle:
        """Send each rank of a stream's group its part along the first axis; fill ``received`` with what they sent.

        Parts are equal unless ``sizes`` says how many rows come from each rank, and how many go to each.

        gloo's own sends before it receives, so that the notice of a receiver who is ready queues behind the bytes that
        it sends itself, and both directions of a link take turns (up to twice the time on slow links).
        """
        group = self._groups[stream]
        come, go = sizes or (None, None)
        if dist.get_backend(group) != "gloo":
            return _handle(dist.all_to_all_single(received, parts, come, go, group=group, async_op=True))
        ranks, place = dist.get_process_group_ranks(group), self.place(stream)
        arriving, leaving = _cut(received, come, len(ranks)), _cut(parts, go, len(ranks))
        arriving[place].copy_(leaving[place])
        turns = range(1, len(ranks))
        receives = [(dist.irecv, arriving, place - turn) for turn in turns]
        sends = [(dist.isend, leaving, (place + turn) % len(ranks)) for turn in turns]
        works = [call(tensors[peer], ranks[peer], group=group) for call, tensors, peer in (*receives, *sends)]
        return Joined([_handle(work) for work in works])

    def shift(self, stream: Stream, received: Tensor, tensor: Tensor, step: int) -> list[Handle]:
        """Send a tensor ``step`` ranks on around the ring of a stream's group; receive from as far behind."""
        group = self._groups[stream]
        ranks, place = dist.get_process_group_ranks(group), self.place(stream)
        after, before = (ranks[(place + way) % len(ranks)] for way in (step, -step))
        operations = [dist.P2POp(dist.irecv, received, before, group), dist.P2POp(dist.isend, tensor, after, group)]
        return [_handle(work) for work in dist.batch_isend_irecv(operations)]

    def place(self, stream: Stream) -> int:
        """Return which rank of a stream's group this one is."""
        return dist.get_rank(self._groups[stream])

    def send(self, stream: Stream, tensor: Tensor, peer: int, border: int = 0) -> Handle:
        """Send a tensor to a global rank; messages of one stream across one border arrive in order."""
        group = self._pipelines[stream][border % self._borders]
        return _handle(dist.isend(tensor, peer, group=group, tag=border))

    def receive(self, stream: Stream, tensor: Tensor, peer: int, border: int = 0) -> Handle:
        """Receive into a tensor from a global rank."""
        group = self._pipelines[stream][border % self._borders]
        return _handle(dist.irecv(tensor, peer, group=group, tag=border))


class Joined:
    """Several messages as one.

    Parameters
    ----------
    parts
        Their handles.
    """

    def __init__(self, parts: list[Handle]) -> None:
        self._parts = parts

    def wait(self) -> None:
        """Block until all are done."""
        for part in self._parts:
            part.wait()

    def is_completed(self) -> bool:
        """Return whether all are known to be done."""
        return all(part.is_completed() for part in self._parts)


def _cut(whole: Tensor, sizes: list[int] | None, count: int) -> list[Tensor]:
    """Return the parts of a tensor along its first axis, equal unless their sizes are given."""
    return list(whole.split(sizes) if sizes else whole.chunk(count))


def _own_group(program: Program, axis: str, timeout: float | None) -> dist.ProcessGroup | None:
    groups = program.groups(axis)
    if len(groups[0]) == 1:
        return None
    limit = None if timeout is None else datetime.timedelta(seconds=timeout)
    group, _ = dist.new_subgroups_by_enumeration([list(ranks) for ranks in groups], timeout=limit)
    return group


def _handle(work: Handle | None) -> Handle:
    assert work is not None, "a rank outside the group asked for its message"
    return work
