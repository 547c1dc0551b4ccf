"""From what each rank saw to the timeline of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simulator.program.instructions import ALONE, RECEIVES, SENDS, Instruction
from simulator.program.program import Program
from simulator.results.timeline import Span, Timeline, curve

Recorded = Sequence[tuple[str, float, float]]
"""One rank's step in plain values on rank 0's clock: instruction, issued, end in seconds."""


def assemble_all(
    program: Program,
    steps: Sequence[Sequence[Recorded]],
    leads: Sequence[bool],
    held: Sequence[Sequence[float]] = (),
) -> list[Timeline]:
    """Return the timelines of steps of which each but those in ``leads`` came right after the one before.

    ``held`` has for each rank the bytes after each computation, counted in another step: all steps do the same.
    """
    timelines: list[Timeline] = []
    for by_rank, lead in zip(steps, leads, strict=True):
        step = assemble(program, by_rank, None if lead else timelines[-1].end)
        memory = {rank: curve(step.of(rank), sizes) for rank, sizes in enumerate(held) if sizes}
        timelines.append(replace(step, memory=memory))
    return timelines


def assemble(program: Program, steps: Sequence[Recorded], begin: float | None = None) -> Timeline:
    """Return the timeline of one step from every rank's record of it.

    The step begins when the one before has ended, or when the last rank is ready for it if none came right before; it
    ends with the last instruction. A message starts when its
    last participant has come; what a rank spends before that in waiting is not communication. A sender learns late
    that its message has arrived, so both ends of a message end when the receiver has it.

    Parameters
    ----------
    program
        Tells who takes part in a message.
    steps
        By rank; empty for a rank whose record was lost.
    begin
        End of the step before, if this one followed without a pause.
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
        for text, issued, ended in record:
            instruction = parsed[text]
            key = _meeting(program, rank, instruction)
            start = arrivals[key] if key else issued
            heard = received.get(key) if key and instruction.kind in SENDS else None
            end = ended if heard is None else max(issued, heard)
            spans.append(Span(rank, instruction, issued, min(start, end), end))
    first = [record[0][1] for record in steps if record]
    return Timeline(
        source="measured",
        begin=max(first, default=0.0) if begin is None else begin,
        end=max((span.end for span in spans), default=0.0),
        spans=tuple(sorted(spans, key=lambda span: (span.rank, span.end))),
        # A rank whose record was lost was not idle; nothing is known of it.
        ranks={rank: (rank,) for rank, record in enumerate(steps) if record},
    )


def meeting(program: Program, instruction: Instruction) -> Instruction | None:
    """Return a name that all participants of a message have for it, None for computation."""
    if instruction.stream in ALONE:
        return None
    if instruction.kind in SENDS:
        return instruction
    if instruction.kind in RECEIVES:
        send, step = RECEIVES[instruction.kind]
        return instruction._replace(kind=send, stage=instruction.stage + step)
    # Copies of one stage in two pipelines have numbers of their own.
    return instruction._replace(stage=program.model_stage(instruction.stage))


def _meeting(program: Program, rank: int, instruction: Instruction) -> tuple[object, ...] | None:
    """Return the same key for all participants of a message and for nobody else, None for computation."""
    name = meeting(program, instruction)
    return name and (program.peers(rank, instruction), name)
