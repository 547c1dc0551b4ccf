"""From what each rank saw to the timeline of a step."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

import torch
import torch.distributed as dist

from executor.lanes import RawSpan
from simulator.program.instructions import SENDS, Instruction, Stream
from simulator.program.program import Program
from simulator.results.timeline import Span, Timeline

Recorded = list[tuple[str, float, float]]
"""One rank's step in plain values: instruction, issued, end."""

PINGS = 20
"""Round trips by which the clocks of two hosts are compared; the fastest counts."""


def plain(spans: Sequence[RawSpan], offset: float) -> Recorded:
    """Return spans in plain values, on rank 0's clock."""
    return [(str(s.instruction), s.issued + offset, (s.end or s.issued) + offset) for s in spans]


def clock_offset(control: dist.ProcessGroup) -> float:
    """Return the seconds to add to this rank's clock to get rank 0's.

    Ranks of one host share the monotonic clock. Between hosts the fastest of some round trips tells the offset, as in
    NTP, to half of what that trip took.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    hosts: list[str] = [""] * world
    dist.all_gather_object(hosts, socket.gethostname(), group=control)
    offset = 0.0
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


def _ask(control: dist.ProcessGroup) -> float:
    best = (float("inf"), 0.0)
    answer = torch.zeros(1, dtype=torch.float64)
    for _ in range(PINGS):
        start = time.perf_counter()
        dist.send(answer, 0, group=control)
        dist.recv(answer, 0, group=control)
        end = time.perf_counter()
        best = min(best, (end - start, answer.item() - (start + end) / 2))
    return best[1]


def assemble(program: Program, steps: Sequence[Recorded], *, whole: bool = True) -> Timeline:
    """Return the timeline of one step from every rank's record of it.

    The step begins when the last rank is ready for it and ends with the last instruction. A message starts when its
    last participant has come; what a rank spends before that in waiting is not communication. A sender learns late that its message has
    arrived, so both ends of a message end when the receiver has it.

    Parameters
    ----------
    program
        Tells who takes part in a message.
    steps
        By rank.
    whole
        False if the step was cut short and some ends are missing.
    """
    parsed = {text: Instruction.parse(text) for record in steps for text, _, _ in record}
    arrivals: dict[tuple[object, ...], float] = {}
    received: dict[tuple[object, ...], float] = {}
    for rank, record in enumerate(steps):
        for text, issued, end in record:
            key = _meeting(program, rank, parsed[text])
            if key:
                arrivals[key] = max(arrivals.get(key, issued), issued)
                if parsed[text].kind not in SENDS:
                    received[key] = max(received.get(key, end), end)
    spans = []
    for rank, record in enumerate(steps):
        for text, issued, end in record:
            instruction = parsed[text]
            key = _meeting(program, rank, instruction)
            start = arrivals[key] if key else issued
            if instruction.kind in SENDS and key in received:
                end = max(issued, received[key])
            spans.append(Span(rank, instruction, issued, min(start, end), end))
    first = [record[0][1] for record in steps if record]
    return Timeline(
        source="measured",
        begin=max(first, default=0.0),
        end=max((span.end for span in spans), default=0.0),
        spans=tuple(sorted(spans, key=lambda span: (span.rank, span.end))),
        ranks={rank: (rank,) for rank in range(len(steps))},
    )


def _meeting(program: Program, rank: int, instruction: Instruction) -> tuple[object, ...] | None:
    """Return the same key for all participants of a message, None for computation."""
    if instruction.stream is Stream.COMPUTE:
        return None
    for send, (receive, step) in SENDS.items():
        if instruction.kind is receive:
            return (program.peers(rank, instruction), instruction._replace(kind=send, stage=instruction.stage - step))
    return (program.peers(rank, instruction), instruction)
