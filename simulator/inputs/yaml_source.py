"""One input file with the command line's changes to it, and where every key of it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from simulator.errors import Diagnostic, InputError, quote
from simulator.inputs.plain_yaml import MAX_DEPTH, Plain, read_plain
from simulator.units import format_bytes, parse_bytes

__all__ = ["Document", "locator", "read_document", "read_text"]

MAX_SIZE = int(parse_bytes("8 MiB"))
"""Bytes; a topology that lists thousands of links one by one has about one MiB."""


@dataclass(slots=True, kw_only=True)
class Document:
    """Plain data as the user wrote it.

    Parameters
    ----------
    name
        What it describes: ``"plan"``, ``"model"``, ``"topology"`` or ``"calibration"``. Dotted keys begin with it.
    path
        The file as the user named it.
    data
        Dicts with string keys, lists and scalars.
    places
        Where each key and list entry was written, by dotted key.
    """

    name: str
    path: str
    data: dict[str, Plain]
    places: dict[str, str] = field(default_factory=dict)

    def locate(self, key: str) -> str:
        """Return where the user wrote a dotted key (``"plan.mesh.tp"``), or else its nearest existing ancestor.

        The answer reads ``"plans/x.yaml:7:9"``, or ``"--set plan.mesh.tp=4"`` for what the command line set.
        """
        while key not in self.places and "." in key:
            key = key.rpartition(".")[0]
        return self.places.get(key, self.path)

    def override(self, key: str, text: str) -> None:
        """Set the value at a dotted key without the document's name (``"mesh.tp"``) to a YAML scalar or flow value.

        Mappings that are missing on the way are created; the entries of a list are numbered from 0.

        Raises
        ------
        InputError
            If `text` is not YAML, or if `key` leads through something that is neither a mapping nor a list.
        """
        target = f"{self.name}.{key}"
        location = f"--set {target}={text}"
        steps = key.split(".")
        if not all(steps) or len(steps) > MAX_DEPTH:
            _refuse(location, "", f"{quote(key)} is not a key", "write names separated by dots, as in mesh.tp")
        value = read_plain(text, target, lambda line, column: location, {})
        self._put(steps, value, location)
        # What the file said below this key is gone, and so are its places.
        for place in [place for place in self.places if place.startswith(f"{target}.")]:
            del self.places[place]
        self.places[target] = location

    def _put(self, steps: list[str], value: Plain, location: str) -> None:
        *parents, last = steps
        here = self.name
        container: Plain = self.data
        for step in parents:
            here, above = f"{here}.{step}", here
            child = _entry(container, step, above, location)
            if child is None:
                child = {}
                _assign(container, step, child)
                self.places[here] = location
            container = child
        _entry(container, last, here, location)
        _assign(container, last, value)


def _entry(container: Plain, step: str, key: str, location: str) -> Plain:
    """Return what `container`, known as `key`, holds at `step`; None where a mapping has nothing there."""
    if isinstance(container, dict):
        return container.get(step)
    if not isinstance(container, list):
        _refuse(location, key, f"is {quote(container)}, so it has no {quote(step)} inside")
    if not (step.isascii() and step.isdigit() and len(step) < 9 and int(step) < len(container)):
        legal = f"has entries 0 to {len(container) - 1}" if container else "has no entries"
        _refuse(location, key, f"is a list that {legal}, not {quote(step)}")
    return container[int(step)]


def _assign(container: Plain, step: str, value: Plain) -> None:
    if isinstance(container, dict):
        container[step] = value
    elif isinstance(container, list):
        container[int(step)] = value


def read_document(path: str, name: str) -> Document:
    """Read a YAML file whose root is a mapping.

    Parameters
    ----------
    path
        The file.
    name
        What it describes, as in `Document`.

    Raises
    ------
    InputError
        If the file cannot be read, is too big, is empty, is not YAML, repeats a key, or is not a mapping.
    """
    places: dict[str, str] = {}
    data = read_plain(read_text(path), name, lambda line, column: f"{path}:{line}:{column}", places)
    if data is None:
        _refuse(path, "", "is empty", f"a {name} is written as keys and values, as in name: example")
    if not isinstance(data, dict):
        given = quote(data)
        _refuse(places[name], "", f"holds {given}, not keys and values", f"begin a {name} with, say, name: example")
    return Document(name=name, path=path, data=data, places=places)


def locator(documents: Iterable[Document]) -> Callable[[str], str]:
    """Return the function that finds a dotted key in whichever of `documents` its first part names."""
    by_name = {document.name: document for document in documents}

    def locate(key: str) -> str:
        document = by_name.get(key.partition(".")[0])
        return document.locate(key) if document else ""

    return locate


def read_text(path: str) -> str:
    """Return the text of a UTF-8 file of at most `MAX_SIZE` bytes.

    Raises
    ------
    InputError
        If the file cannot be read, is too big, or is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        _refuse(path, "", f"cannot be read: {reason.lower()}")
    if len(raw) > MAX_SIZE:
        _refuse(path, "", f"is larger than the limit of {format_bytes(MAX_SIZE)}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        _refuse(f"{path}:{line}:1", "", "is not UTF-8 text", "save it as UTF-8")


def _refuse(location: str, key: str, message: str, hint: str = "") -> NoReturn:
    raise InputError([Diagnostic(location, key, message, hint)])
