"""Whether recorded steps kept to the order that a Program fixes: on each rank, and between ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from simulator.program.dependencies import dependencies
from simulator.program.instructions import SENDS, Instruction, Lane, Stream
from simulator.program.program import Program
from simulator.results.assemble import meeting
from simulator.results.timeline import Span, Timeline
from simulator.units import format_seconds

ROUNDING = 1e-9
"""Part of a step that sums of floats may lose."""

Spans = dict[Instruction, Span]


def disorder(program: Program, steps: Iterable[Timeline], clock_error: float = 0.0) -> Iterator[str]:
    """Yield what came too early in each step, in words.

    A step is in order if every recorded rank ran its list, each instruction once, and

    * computations came one after the other as listed, and what shares another lane began as listed;
    * no instruction was issued before what it needs on its own rank was done (``dependencies.py``);
    * nothing was received before its sender had come to send it;
    * nobody was done with a collective before all of its members had come.

    So chains hold that go over several ranks: compute, send, receive, compute. Not looked at is that a rank waits for
    what it sent (``p2p_overlap: false``): its library may know of the arrival before the receiver's thread does. What
    the Program leaves open, how lanes and ranks overlap, may differ.

    Parameters
    ----------
    clock_error
        Seconds by which the clocks of two ranks may differ.
    """
    needs = [dependencies(program, instructions) for instructions in program.lists]
    for step in steps:
        tolerance = clock_error + ROUNDING * step.step_time
        world = program.plan.mesh.world_size
        yield from (f"rank {rank} is none of the plan's {world}" for rank in step.ranks if rank >= world)
        spans = {rank: {span.instruction: span for span in step.of(rank)} for rank in step.ranks if rank < world}
        for rank, own in spans.items():
            if twice := len(step.of(rank)) - len(own):
                yield f"rank {rank} ran {len(step.of(rank))} instructions, {twice} of them not for the first time"
            place = program.plan.mesh.coordinate(rank, "pp")
            yield from _on_rank(rank, program.lists[place], needs[place], own, tolerance)
        yield from _between_ranks(program, step, spans, tolerance)


def misfit(program: Program, step: Timeline, whole: bool = True) -> str:
    """Return by what a step shows that it is none of this program, nothing if it may be one.

    Where it is not ``whole`` because the run was cut short, ranks and instructions may lack.
    """
    world, num_stages = program.plan.mesh.world_size, len(program.stages)
    ranks = {member for members in step.ranks.values() for member in members}
    if max(ranks, default=0) >= world or (whole and len(ranks) < world):
        return f"is of {len(ranks)} rank{'s'[: len(ranks) != 1]}, but the plan has {world}"
    stages = 1 + max((span.instruction.stage for span in step.spans), default=0)
    if stages > num_stages or (whole and stages < num_stages):
        return f"has {stages} stages, but the plan has {num_stages}"
    for rank in step.ranks:
        listed, ran = program.instructions(rank), [span.instruction for span in step.of(rank)]
        strange, lacking = set(ran).difference(listed), set(listed).difference(ran) if whole else ()
        if strange:
            return f"rank {rank} ran {min(strange)}, which the plan does not have there"
        if lacking:
            return f"rank {rank} did not run {min(lacking)}, which the plan has there"
    return ""


def _on_rank(
    rank: int, listed: Sequence[Instruction], needs: Sequence[Sequence[int]], spans: Spans, tolerance: float
) -> Iterator[str]:
    belonging = set(listed)
    yield from (f"rank {rank} did not run {each}" for each in listed if each not in spans)
    yield from (f"rank {rank} ran {each}, which is not in its list" for each in spans if each not in belonging)
    last: dict[Lane, Span] = {}
    for instruction, needed in zip(listed, needs, strict=True):
        if (span := spans.get(instruction)) is None:
            continue
        if before := last.get(instruction.lane):
            earliest = before.end if instruction.stream is Stream.COMPUTE else before.start
            if span.start < earliest - tolerance:
                early = format_seconds(earliest - span.start)
                yield f"rank {rank} began {instruction} {early} too early: {before.instruction} comes first"
        last[instruction.lane] = span
        for need in (spans.get(listed[position]) for position in needed):
            if need and need.instruction.kind not in SENDS and span.issued < need.end - tolerance:
                early = format_seconds(need.end - span.issued)
                yield f"rank {rank} issued {instruction} {early} before {need.instruction} was done, which it needs"


def _between_ranks(program: Program, step: Timeline, spans: dict[int, Spans], tolerance: float) -> Iterator[str]:
    recorded = {member: rank for rank, members in step.ranks.items() for member in members}
    meetings = {
        rank: {meeting(program, instruction): span for instruction, span in own.items()} for rank, own in spans.items()
    }
    for rank, own in meetings.items():
        for name, span in own.items():
            if name is None or span.instruction.kind in SENDS:
                continue
            peers = {recorded[peer] for peer in program.peers(rank, span.instruction) if peer in recorded} - {rank}
            for other in (meetings[peer].get(name) for peer in sorted(peers)):
                if other and span.end < other.issued - tolerance:
                    early = format_seconds(other.issued - span.end)
                    yield f"rank {rank} was done with {span.instruction} {early} before rank {other.rank} came to it"
