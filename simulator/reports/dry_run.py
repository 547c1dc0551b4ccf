"""A dry run for people: both sides of every sum, and each difference by its rank and instruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from simulator.reports.terminal import table

SHOWN = 20
"""Differences that are told of one rank; a wrong rule differs everywhere, and its first places say enough."""


def rows(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one line of a spreadsheet a quantity and rank."""
    return [
        {"name": result["name"], "world_size": result["world_size"], "rank": each["rank"], **quantity}
        for result in results
        for each in result["ranks"]
        for quantity in each["quantities"]
    ]


def render(results: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """Return a table for each job, its differences, and a last line that says how many there are."""
    parts: list[RenderableType] = []
    for result in results:
        shown = table(
            "rank", "quantity", "program", "executor", "", title=f"{result['name']}, {result['world_size']} ranks"
        )
        for each in result["ranks"]:
            at = " ".join(f"{axis} {place}" for axis, place in each["coordinates"].items())
            for index, quantity in enumerate(each["quantities"]):
                values = (_exact(quantity[side]) for side in ("expected", "found"))
                first = f"{each['rank']} ({at})" if not index else ""
                shown.add_row(first, quantity["quantity"], *values, quantity["verdict"])
        parts += [shown, *(Text(line) for each in result["ranks"] for line in _told(each))]
    ranks = [each for result in results for each in result["ranks"]]
    wrong = sum(not each["agrees"] for each in ranks)
    verdict = f"differ on {wrong} of {len(ranks)} ranks" if wrong else f"agree on all {len(ranks)} ranks"
    return [*parts, Text(f"program and executor {verdict}")]


def _told(each: Mapping[str, Any]) -> list[str]:
    """Return a line a difference, and one for each reason why some are known."""
    unknown = [difference for difference in each["differences"] if not difference["known"]]
    lines = [
        f"rank {each['rank']}, {one['instruction'] or 'whole step'}: {one['what']}: expected {one['expected']}, "
        f"found {one['found']}; times: {one['times']}"
        for one in unknown[:SHOWN]
    ]
    if len(unknown) > SHOWN:
        lines.append(f"rank {each['rank']}: and {len(unknown) - SHOWN} more")
    reasons = dict.fromkeys(one["known"] for one in each["differences"] if one["known"])
    return lines + [f"rank {each['rank']}, known: {reason}" for reason in reasons]


def _exact(value: float) -> str:
    """Return a whole number in groups of three: equal means equal to the last digit."""
    return f"{value:,.0f}"
