"""What each rank saw of a step, in plain values on one clock."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

import torch
import torch.distributed as dist

from executor.lanes import RawSpan
from simulator.results.assemble import Recorded

PINGS = 20
"""Round trips by which the clocks of two hosts are compared; the fastest counts."""


def plain(spans: Sequence[RawSpan], offset: float) -> Recorded:
    """Return spans in plain values, on rank 0's clock."""
    return [(str(s.instruction), s.issued + offset, (s.end or s.issued) + offset) for s in spans]


def clock_offset(control: dist.ProcessGroup) -> tuple[float, float]:
    """Return the seconds to add to this rank's clock to get rank 0's, and by how many that may be wrong.

    Ranks of one host share the monotonic clock. Between hosts the fastest of some round trips tells the offset, as in
    NTP, to half of what that trip took.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    hosts: list[str] = [""] * world
    dist.all_gather_object(hosts, socket.gethostname(), group=control)
    offset = (0.0, 0.0)
    for other in range(1, world):
        if hosts[other] == hosts[0]:
            continue
        if rank == 0:
            for _ in range(PINGS):
                dist.recv(torch.zeros(1, dtype=torch.float64), other, group=control)
                dist.send(torch.tensor([time.perf_counter()], dtype=torch.float64), other, group=control)
        elif rank == other:
            offset = _ask(control)
    return offset


def _ask(control: dist.ProcessGroup) -> tuple[float, float]:
    best = (float("inf"), 0.0)
    answer = torch.zeros(1, dtype=torch.float64)
    for _ in range(PINGS):
        start = time.perf_counter()
        dist.send(answer, 0, group=control)
        dist.recv(answer, 0, group=control)
        end = time.perf_counter()
        best = min(best, (end - start, answer.item() - (start + end) / 2))
    trip, offset = best
    return offset, trip / 2
