"""Messages between ranks behind one narrow interface: NCCL on GPUs, gloo on CPUs, room for another.

The Program says what is sent when; a transport only moves tensors and returns handles to wait on.
"""

from __future__ import annotations

from typing import Protocol

import torch.distributed as dist
from torch import Tensor

from simulator.plan.mesh import Mesh
from simulator.program.instructions import Stream


class Handle(Protocol):
    """Something under way."""

    def wait(self) -> object:
        """Block (gloo) or make the current CUDA stream wait (NCCL) until it is done."""

    def is_completed(self) -> bool:
        """Return whether it is done; gloo never says so of a send or receive."""


class Transport:
    """Process groups of a mesh.

    Groups are collective to make: every rank must build the transports of a run in the same order. Each direction of
    a pipeline has its own group, so that a message never queues behind traffic the other way.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._groups: dict[Stream, dist.ProcessGroup | None] = {
            Stream.TP: _own_group(mesh, "tp"),
            Stream.DP: _own_group(mesh, "dp"),
        }
        forward, backward = _own_group(mesh, "pp"), _own_group(mesh, "pp")
        for stream in (Stream.SEND_F, Stream.RECV_F):
            self._groups[stream] = forward
        for stream in (Stream.SEND_B, Stream.RECV_B):
            self._groups[stream] = backward

    def all_reduce(self, stream: Stream, tensor: Tensor) -> Handle:
        """Sum ``tensor`` in place over the group of a stream."""
        return _handle(dist.all_reduce(tensor, group=self._groups[stream], async_op=True))

    def send(self, stream: Stream, tensor: Tensor, peer: int) -> Handle:
        """Send a tensor to a global rank; messages of one stream arrive in order."""
        return _handle(dist.isend(tensor, peer, group=self._groups[stream]))

    def receive(self, stream: Stream, tensor: Tensor, peer: int) -> Handle:
        """Receive into a tensor from a global rank."""
        return _handle(dist.irecv(tensor, peer, group=self._groups[stream]))


def _own_group(mesh: Mesh, axis: str) -> dist.ProcessGroup | None:
    if mesh.size(axis) == 1:
        return None
    group, _ = dist.new_subgroups_by_enumeration([list(ranks) for ranks in mesh.groups(axis)])
    return group


def _handle(work: Handle | None) -> Handle:
    assert work is not None, "a rank outside the group asked for its message"
    return work
