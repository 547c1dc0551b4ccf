"""The familiar picture of a schedule: ranks down, time across, one colour for each kind of action."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from rich.style import Style
from rich.text import Text

from simulator.program.instructions import Kind, Stream
from simulator.results.timeline import Span, Timeline
from simulator.units import format_seconds

COLOURS = {
    Kind.F: "#5b8ff9",
    Kind.R: "#a9c6fb",
    Kind.B: "#5ad8a6",
    Kind.I: "#61ddaa",
    Kind.W: "#f6bd16",
    Kind.OPTIM: "#9270ca",
}
"""Forward blue, paler when it runs again, backward green, weight gradients yellow, as in the zero-bubble papers."""

ROW, GAP, LABEL = 28, 6, 70
"""Pixels of a row, between rows, and of the names at the left."""


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


def draw(timeline: Timeline, width: int) -> Text:
    """Return the grid for a terminal: each column is ``step / width`` seconds, numbers are micro-batches."""
    begin = timeline.first
    scale = width / (timeline.end - begin)
    picture = Text(no_wrap=True, overflow="crop")
    for rank in sorted(timeline.ranks):
        cells: list[tuple[str, Kind | None]] = [(" ", None)] * width
        for span in actions(timeline, rank):
            first = round((span.start - begin) * scale)
            last = max(first + 1, round((span.end - begin) * scale))
            number = str(span.instruction.microbatch) if span.instruction.microbatch >= 0 else ""
            for column in range(max(0, first), min(last, width)):
                offset = column - first
                cells[column] = (number[offset] if offset < len(number) else " ", span.instruction.kind)
        picture.append(f"rank {rank:<4}")
        for character, kind in cells:
            picture.append(
                character, Style(color="black", bgcolor=COLOURS[kind]) if kind else Style(color="bright_black")
            )
        picture.append("\n")
    picture.append(_legend(timeline))
    return picture


def _legend(timeline: Timeline) -> Text:
    kinds = {span.instruction.kind for span in timeline.spans if span.instruction.stream is Stream.COMPUTE}
    legend = Text("         ")
    for kind, colour in COLOURS.items():
        if kind in kinds:
            legend.append(f" {kind.value} ", Style(color="black", bgcolor=colour))
            legend.append(" ")
    legend.append(f" {format_seconds(timeline.step_time)}, {timeline.source}")
    return legend


def svg(timeline: Timeline, width: int = 1200) -> str:
    """Return the grid as a picture for papers and slides."""
    begin = timeline.first
    scale = (width - LABEL) / (timeline.end - begin)
    ranks = sorted(timeline.ranks)
    height = len(ranks) * (ROW + GAP) + ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for row, rank in enumerate(ranks):
        top = row * (ROW + GAP) + GAP
        parts.append(f'<text x="4" y="{top + ROW * 0.65:.1f}">rank {rank}</text>')
        for span in actions(timeline, rank):
            left = LABEL + (span.start - begin) * scale
            size = max(0.5, (span.end - span.start) * scale)
            title = escape(f"{span.instruction}: {format_seconds(span.end - span.start)}")
            parts.append(
                f'<rect x="{left:.2f}" y="{top}" width="{size:.2f}" height="{ROW}" stroke="white" stroke-width="0.5" '
                f'fill="{COLOURS[span.instruction.kind]}"><title>{title}</title></rect>'
            )
            number = str(span.instruction.microbatch)
            if span.instruction.microbatch >= 0 and size > 7 * len(number):
                middle = left + size / 2
                parts.append(f'<text x="{middle:.2f}" y="{top + ROW * 0.65:.1f}" text-anchor="middle">{number}</text>')
    note = escape(f"{timeline.source}: {format_seconds(timeline.step_time)}")
    parts += [f'<text x="{LABEL}" y="{height - 8}">{note}</text>', "</svg>"]
    return "\n".join(parts)
