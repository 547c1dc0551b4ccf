"""XML text -> elements that know their lines. A document type is refused, and with it every entity but XML's five."""

from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from simulator.topology.importers.facts import refuse

MAX_DEPTH = 64
"""Levels of elements; a chain of PCI bridges has fewer than ten."""

MAX_ELEMENTS = 100_000
"""Elements of one document; a node with eight GPUs has some hundred."""


@dataclass(slots=True)
class Element:
    """One element.

    Parameters
    ----------
    tag : str
        Its name.
    attributes : dict[str, str]
        Its attributes.
    place : str
        Where it begins, as file:line:column.
    children : list[Element]
        The elements in it, in order. Text between them is not kept.
    """

    tag: str
    attributes: dict[str, str]
    place: str
    children: list["Element"] = field(default_factory=list)

    def all(self, *tags: str) -> list["Element"]:
        """The children with one of these tags."""
        return [child for child in self.children if child.tag in tags]

    def get(self, name: str) -> str:
        """An attribute; empty when it is not there."""
        return self.attributes.get(name, "").strip()

    def number(self, name: str) -> int:
        """An attribute that must be a whole number, zero or more."""
        text = self.get(name)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            refuse(self.place, f'<{self.tag}> has {name}="{text[:20]}", which is no whole number')
        return int(text)


def parse_xml(text: str, path: str) -> Element:
    """Return the root element.

    Raises
    ------
    InputError
        The text is not well-formed, has a document type, or is larger or deeper than any real file.
    """
    builder = _Builder(path)
    parser = builder.parser
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        place = f"{path}:{error.lineno}:{error.offset + 1}"
        refuse(place, f"is not XML: {expat.ErrorString(error.code)}", "save the whole dump, and nothing else")
    assert builder.root is not None
    return builder.root


class _Builder:
    def __init__(self, path: str) -> None:
        self.root: Element | None = None
        self._path = path
        self._open: list[Element] = []
        self._count = 0
        self.parser: Any = expat.ParserCreate("utf-8")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        # Entities can only be declared in a document type: no billion laughs, no files of this machine, no network.
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype

    def _place(self) -> str:
        return f"{self._path}:{self.parser.CurrentLineNumber}:{self.parser.CurrentColumnNumber + 1}"

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            refuse(self._place(), f"holds more than {MAX_ELEMENTS:,} elements")
        if len(self._open) == MAX_DEPTH:
            refuse(self._place(), f"is nested deeper than {MAX_DEPTH} levels")
        element = Element(tag, attributes, self._place())
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, tag: str) -> None:
        self._open.pop()

    def _refuse_doctype(self, *_: object) -> None:
        refuse(self._place(), "has a document type (<!DOCTYPE ...>), which could define entities", "remove it")
