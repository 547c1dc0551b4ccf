"""The grid of a step as an SVG picture, for papers and slides."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from simulator.program.instructions import Kind
from simulator.reports.grid import COLOURS, NAMES, actions, chunks, kinds, label, most_chunks, shade
from simulator.results.timeline import Timeline
from simulator.units import format_seconds

ROW, GAP = 28.0, 6.0
"""Pixels of a row, and between rows."""

LETTER = 6.5
"""Pixels that a character of the font takes at most on average; texts are given that much room."""


def svg(timeline: Timeline, width: int = 1200) -> str:
    """Return the picture: a row for each class of ranks, numbers are micro-batches, a legend below."""
    names = {rank: label(timeline.ranks[rank]) for rank in sorted(timeline.ranks)}
    left = 12 + LETTER * max(map(len, names.values()))
    depth = most_chunks(timeline)
    below = GAP + len(names) * (ROW + GAP)
    height = below + 3 * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height:.0f}" fill="white"/>',
    ]
    for row, (rank, name) in enumerate(names.items()):
        top = GAP + row * (ROW + GAP)
        everyone = ", ".join(map(str, timeline.ranks[rank]))
        parts.append(f'<text x="4" y="{_middle(top):.1f}">{name}<title>ranks {everyone}</title></text>')
        parts += _cells(timeline, rank, top, left, width - left - 4, depth)
    parts += _legend(timeline, below, left, depth)
    return "\n".join([*parts, "</svg>"])


def _middle(top: float) -> float:
    """Return the base line of a text in the middle of a row."""
    return top + ROW * 0.65


def _cells(timeline: Timeline, rank: int, top: float, left: float, width: float, depth: int) -> Iterator[str]:
    """Yield a row's rectangles, with the number of the micro-batch where there is room for it."""
    begin = timeline.first
    scale = width / (timeline.end - begin)
    stages = chunks(timeline, rank)
    for span in actions(timeline, rank):
        chunk = stages.index(span.instruction.stage)
        x, size = left + (span.start - begin) * scale, max(0.5, (span.end - span.start) * scale)
        title = escape(f"{span.instruction}: {format_seconds(span.end - span.start)}")
        yield (
            f'<rect x="{x:.2f}" y="{top:.1f}" width="{size:.2f}" height="{ROW}" stroke="white" stroke-width="0.5" '
            f'fill="{shade(span.instruction.kind, chunk, depth)}"><title>{title}</title></rect>'
        )
        number = str(span.instruction.microbatch)
        if span.instruction.microbatch >= 0 and size > LETTER * len(number):
            # White on the darker half of the shades.
            ink = ' fill="white"' if chunk > (depth - 1) / 2 else ""
            at = f'x="{x + size / 2:.2f}" y="{_middle(top):.1f}" text-anchor="middle"'
            yield f"<text {at}{ink}>{number}</text>"


def _legend(timeline: Timeline, top: float, left: float, depth: int) -> Iterator[str]:
    """Yield a box with a letter and its meaning for each kind of action, then what shades mean, then the step."""
    x = left
    for kind in kinds(timeline):
        size = 8 + LETTER * len(kind.value)
        yield f'<rect x="{x:.1f}" y="{top + 4}" width="{size:.1f}" height="20" fill="{COLOURS[kind]}"/>'
        yield f'<text x="{x + size / 2:.1f}" y="{_middle(top):.1f}" text-anchor="middle">{kind.value}</text>'
        yield f'<text x="{x + size + 6:.1f}" y="{_middle(top):.1f}">{NAMES[kind]}</text>'
        x += size + 24 + LETTER * len(NAMES[kind])
    if depth > 1:
        top, x = top + ROW, left
        for chunk in range(depth):
            yield f'<rect x="{x}" y="{top + 4}" width="20" height="20" fill="{shade(Kind.F, chunk, depth)}"/>'
            x += 20
        yield f'<text x="{x + 6}" y="{_middle(top):.1f}">the {depth} stages of a rank, first to last</text>'
    note = escape(f"{timeline.source}: {format_seconds(timeline.step_time)}")
    yield f'<text x="{left}" y="{_middle(top + ROW):.1f}">{note}</text>'
