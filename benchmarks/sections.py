"""Sections of a Markdown page that different benchmarks write, each between HTML comments that name it."""

from __future__ import annotations

import re
from pathlib import Path

_SECTION = re.compile(r"<!-- begin (?P<name>[\w-]+) -->\n.*?<!-- end (?P=name) -->\n", re.DOTALL)


def named_sections(text: str) -> dict[str, str]:
    """Return the sections of a page by name, comments included."""
    return {match["name"]: match[0] for match in _SECTION.finditer(text)}


def write_section(page: Path, name: str, body: str) -> None:
    """Put a section in its place on a page, or at the page's end; everything else stays as it is."""
    text = page.read_text(encoding="utf-8")
    section = f"<!-- begin {name} -->\n{body.strip()}\n<!-- end {name} -->\n"
    old = named_sections(text).get(name)
    page.write_text(text.replace(old, section) if old else f"{text.rstrip()}\n\n{section}", encoding="utf-8")
