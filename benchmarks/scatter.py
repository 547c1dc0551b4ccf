"""A plot of predicted against measured, both logarithmic, as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import ceil, floor, log10

SIDE, LEFT, BOTTOM, LEGEND, ROW = 640, 70, 50, 260, 18
"""Pixels: the square, the margins for its axes, the width of the legend and of one line of it."""

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000", "#cc6600", "#664488")
"""Told apart by people who see few colours (Paul Tol, bright); the last two added."""

BAND = 0.1
"""Of the measured value; between its borders an error is small."""


def scatter(points: Sequence[tuple[str, float | None, float | None]], across: str, up: str) -> str:
    """Return the plot of (group, measured, predicted), all positive."""
    pairs = [(group, float(x), float(y)) for group, x, y in points if x and y]
    values = [value for _, x, y in pairs for value in (x, y)] or [1.0]
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    high += low == high

    def place(value: float) -> float:
        return (log10(value) - low) / (high - low) * SIDE

    groups = list(dict.fromkeys(group for group, _, _ in pairs))
    colour = {group: COLOURS[index % len(COLOURS)] for index, group in enumerate(groups)}
    dots = (
        f'<circle cx="{LEFT + place(x):.1f}" cy="{SIDE - place(y):.1f}" r="2.5" fill="{colour[group]}" '
        'fill-opacity="0.6"/>'
        for group, x, y in pairs
    )
    frame = f'<rect x="{LEFT}" y="0" width="{SIDE}" height="{SIDE}" fill="none" stroke="#888888"/>'
    body = [frame, *_axes(low, high, across, up), *_diagonals(low, high), *dots, *_legend(colour)]
    width, height = LEFT + SIDE + LEGEND, SIDE + BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _axes(low: int, high: int, across: str, up: str) -> Iterable[str]:
    """Yield a line and a number at every power of ten, and the names of both axes."""
    for power in range(low, high + 1):
        at = (power - low) / (high - low) * SIDE
        label = f"{10.0**power:g}"
        yield f'<path d="M{LEFT + at:.1f} 0V{SIDE}M{LEFT} {SIDE - at:.1f}h{SIDE}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT + at:.1f}" y="{SIDE + 16}" text-anchor="middle">{label}</text>'
        yield f'<text x="{LEFT - 6}" y="{SIDE - at + 4:.1f}" text-anchor="end">{label}</text>'
    middle = SIDE / 2
    yield f'<text x="{LEFT + middle}" y="{SIDE + 38}" text-anchor="middle">{escape(across)}</text>'
    yield f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'


def _diagonals(low: int, high: int) -> Iterable[str]:
    """Yield the line of equality and the borders of the band around it, clipped to the square."""
    unit = SIDE / (high - low)
    for factor, style in ((1.0, ""), (1 + BAND, ' stroke-dasharray="4 4"'), (1 - BAND, ' stroke-dasharray="4 4"')):
        shift = log10(factor) * unit
        start, end = max(0.0, -shift), min(SIDE, SIDE - shift)
        line = f"M{LEFT + start:.1f} {SIDE - start - shift:.1f}L{LEFT + end:.1f} {SIDE - end - shift:.1f}"
        yield f'<path d="{line}" stroke="#444444" fill="none"{style}/>'


def _legend(colour: dict[str, str]) -> Iterable[str]:
    for index, (group, shade) in enumerate(colour.items()):
        y = 14 + ROW * index
        yield f'<circle cx="{LEFT + SIDE + 16}" cy="{y - 4}" r="4" fill="{shade}"/>'
        yield f'<text x="{LEFT + SIDE + 26}" y="{y}">{escape(group)}</text>'
    y = 14 + ROW * (len(colour) + 1)
    yield f'<text x="{LEFT + SIDE + 12}" y="{y}">dashed: {BAND:.0%} off</text>'
