"""The familiar picture of a schedule: ranks down, time across, one colour for each kind of action."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.style import Style
from rich.text import Text

from simulator.program.instructions import Kind, Stream
from simulator.results.timeline import Span, Timeline
from simulator.units import format_seconds

COLOURS = {
    Kind.F: "#5b8ff9",
    Kind.R: "#a9c6fb",
    Kind.B: "#5ad8a6",
    Kind.I: "#56c7d6",
    Kind.W: "#f6bd16",
    Kind.OPTIM: "#9270ca",
}
"""Forward blue, paler when it runs again, backward green, its halves cyan and yellow, as in the zero-bubble papers."""

NAMES = {
    Kind.F: "forward",
    Kind.R: "forward again",
    Kind.B: "backward",
    Kind.I: "input gradients",
    Kind.W: "weight gradients",
    Kind.OPTIM: "update",
}

DARKEST = 0.65
"""What is left of a colour's brightness in the last of a rank's stages."""


def actions(timeline: Timeline, rank: int) -> Iterator[Span]:
    """Yield the computing spans of a rank, segments of one action joined."""
    joined: Span | None = None
    for span in sorted(timeline.of(rank), key=lambda each: each.start):
        if span.instruction.kind not in COLOURS:
            continue
        whole = span._replace(instruction=span.instruction._replace(part=-1))
        if joined and joined.instruction == whole.instruction:
            joined = joined._replace(end=span.end)
            continue
        if joined:
            yield joined
        joined = whole
    if joined:
        yield joined


def chunks(timeline: Timeline, rank: int) -> list[int]:
    """Return the stages of a rank: the first is its chunk 0, which has the lightest colours."""
    return sorted({span.instruction.stage for span in timeline.of(rank) if span.instruction.kind in COLOURS})


def most_chunks(timeline: Timeline) -> int:
    """Return the largest number of stages on a rank."""
    return max(len(chunks(timeline, rank)) for rank in timeline.ranks)


def shade(kind: Kind, chunk: int, num_chunks: int) -> str:
    """Return the colour of a kind of action in one of a rank's stages."""
    light = 1 - (1 - DARKEST) * chunk / max(1, num_chunks - 1)
    red, green, blue = (round(int(COLOURS[kind][at : at + 2], 16) * light) for at in (1, 3, 5))
    return f"#{red:02x}{green:02x}{blue:02x}"


def kinds(timeline: Timeline) -> list[Kind]:
    """Return the kinds of action that a step has, in the order of the legend."""
    found = {span.instruction.kind for span in timeline.spans if span.instruction.stream is Stream.COMPUTE}
    return [kind for kind in COLOURS if kind in found]


def label(members: Sequence[int]) -> str:
    """Return the name of a row: the rank, or all ranks that are alike, as in ``ranks 0-3, 8-11``."""
    if len(members) == 1:
        return f"rank {members[0]}"
    runs = [[rank for _, rank in run] for _, run in groupby(enumerate(sorted(members)), lambda pair: pair[1] - pair[0])]
    shown = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:2])
    return f"ranks {shown}" + (f", ... ({len(members)})" if len(runs) > 2 else "")


def draw(timeline: Timeline, width: int) -> Text:
    """Return the grid for a terminal: each column is ``step / width`` seconds, numbers are micro-batches."""
    begin = timeline.first
    names = {rank: label(timeline.ranks[rank]) for rank in sorted(timeline.ranks)}
    margin = max(map(len, names.values())) + 1
    scale = (width - margin) / (timeline.end - begin)
    depth = most_chunks(timeline)
    picture = Text(no_wrap=True, overflow="crop")
    for rank, name in names.items():
        cells: list[tuple[str, str]] = [(" ", "")] * (width - margin)
        stages = chunks(timeline, rank)
        for span in actions(timeline, rank):
            first = round((span.start - begin) * scale)
            last = max(first + 1, round((span.end - begin) * scale))
            number = str(span.instruction.microbatch) if span.instruction.microbatch >= 0 else ""
            colour = shade(span.instruction.kind, stages.index(span.instruction.stage), depth)
            for column in range(max(0, first), min(last, len(cells))):
                offset = column - first
                cells[column] = (number[offset] if offset < len(number) else " ", colour)
        picture.append(f"{name:<{margin}}")
        for character, colour in cells:
            picture.append(character, Style(color="black", bgcolor=colour) if colour else Style())
        picture.append("\n")
    return picture.append(_legend(timeline, depth))


def _legend(timeline: Timeline, depth: int) -> Text:
    legend = Text()
    for kind in kinds(timeline):
        legend.append(f" {kind.value} ", Style(color="black", bgcolor=COLOURS[kind])).append(f" {NAMES[kind]}  ")
    if depth > 1:
        legend.append(f"\nlight to dark: the {depth} stages of a rank, first to last")
    return legend.append(f"\n{format_seconds(timeline.step_time)}, {timeline.source}")
