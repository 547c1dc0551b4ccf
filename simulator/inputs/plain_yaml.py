"""YAML text -> plain data and the place of every key, within limits that make hostile text harmless.

The tree is built straight from the parser's events, so that a limit stops the reading where it is exceeded: ten
megabytes of ``[[[[`` end at the 33rd bracket, and an alias is counted as what it expands to.

Plain scalars follow the JSON schema of YAML 1.2, with one exception. ``true`` and ``false`` are the only booleans, and
``no``, ``12:30``, ``010`` and dates stay text, where YAML 1.1 makes False, 750, 8 and a date of them. The exception is
that ``1e-6`` (no point) stays text too, as PyYAML has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TypeAlias

import yaml

from simulator.errors import Diagnostic, InputError, quote

__all__ = ["MAX_DEPTH", "MAX_NODES", "Place", "Plain", "read_plain"]

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | str | int | float | bool | None"

Place: TypeAlias = Callable[[int, int], str]
"""Names a line and a column, both counted from 1, as the user should see them."""

MAX_DEPTH = 32
"""Levels of nesting; the deepest sensible topology has fewer than ten."""

MAX_NODES = 100_000
"""Keys and values in one document with aliases expanded: some ten thousand links, read in about half a second."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: dict[str, bool | None] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _WORDS |= dict.fromkeys((_word, _word.capitalize(), _word.upper()), _value)

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,99})")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_UNTAGGED = (None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq")))

_HINTS = {
    "cannot start any token": "indent with spaces, not tabs, and put text that starts with @, ` or % in quotes",
    "mapping values are not allowed": "put text that contains a colon in quotes, and check the indentation",
    "did not find expected": "check brackets, quotes and indentation",
    "could not find expected ':'": "every key needs a colon and a space after it",
    "found unexpected end of stream": "a quote is not closed",
}


def read_plain(text: str, key: str, place: Place, places: dict[str, str]) -> Plain:
    """Return the one document in `text` as dicts, lists and scalars.

    Parameters
    ----------
    text
        YAML.
    key
        Dotted key under which the document's root is known in `places` and in errors.
    place
        Names a position in `text` as the user should see it.
    places
        Filled with the place of each key and each list entry, by dotted key.

    Raises
    ------
    InputError
        If `text` is not YAML, holds more than one document, repeats a key, or exceeds a limit.
    """
    try:
        reader = _Reader(yaml.parse(text, Loader=_LOADER), place, places)
        return reader.read(key)
    except yaml.YAMLError as error:
        raise InputError([_syntax_error(error, text, place)]) from None
    except UnicodeEncodeError:
        # The command line hands over bytes that are not UTF-8 as lone surrogates.
        raise InputError([Diagnostic(place(1, 1), "", "is not UTF-8 text")]) from None


def _syntax_error(error: yaml.YAMLError, text: str, place: Place) -> Diagnostic:
    """Turn what the parser says into one line with a hint for the usual causes."""
    if not isinstance(error, yaml.MarkedYAMLError):
        # What is left is a character that YAML forbids. The parser counts bytes or characters, so look for it again.
        offset = max(text.find(chr(getattr(error, "character", 0))), 0)
        line, column = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
        return Diagnostic(place(line, column), "", "holds a control character", "remove it")
    problem = error.problem or "it cannot be read"
    mark, began = error.problem_mark, error.context_mark
    # Where a bracket or quote was opened helps when that is above the place where the parser gave up.
    above = mark and began and began.line < mark.line
    since = f" {error.context} that began on line {began.line + 1}" if above and began else ""
    where = place(mark.line + 1, mark.column + 1) if mark else place(1, 1)
    hint = next((hint for sign, hint in _HINTS.items() if sign in problem), "")
    return Diagnostic(where, "", f"is not YAML: {problem}{since}", hint)


class _Reader:
    """One pass over the events of a document."""

    def __init__(self, events: Iterable[yaml.Event], place: Place, places: dict[str, str]) -> None:
        self._events = _without_aliases(events, self._refuse)
        self._name_place = place
        self._places = places
        self._nodes = 0
        self._repeated: list[Diagnostic] = []

    def read(self, key: str) -> Plain:
        """Return the value of the only document; nothing at all counts as null."""
        value: Plain = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(event, "", "holds more than one document", "remove the lines that are ---")
            elif isinstance(event, yaml.NodeEvent):
                self._places[key] = self._at(event)
                value = self._value(event, key, 0)
        if self._repeated:
            raise InputError(self._repeated)
        return value

    def _value(self, event: yaml.Event, key: str, depth: int) -> Plain:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._refuse(event, "", f"holds more than {MAX_NODES:,} keys and values (aliases count as they expand)")
        tag = getattr(event, "tag", None)
        if tag not in _UNTAGGED:
            self._refuse(event, key, f"has the tag {quote(tag)}, and tags have no meaning here", "remove it")
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if depth == MAX_DEPTH:
            self._refuse(event, "", f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(key, depth + 1)
        return self._mapping(key, depth + 1)

    def _list(self, key: str, depth: int) -> list[Plain]:
        entries: list[Plain] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            inner = f"{key}.{len(entries)}"
            self._places[inner] = self._at(event)
            entries.append(self._value(event, inner, depth))
        return entries

    def _mapping(self, key: str, depth: int) -> dict[str, Plain]:
        entries: dict[str, Plain] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._refuse(event, key, "has a list or a mapping as a key", "a key is a word")
            name, inner = event.value, f"{key}.{event.value}"
            if name == "<<":
                self._refuse(event, key, "uses the merge key <<, which is not supported", "repeat the keys")
            place = self._at(event)
            if name in entries:
                self._repeated.append(Diagnostic(place, inner, f"is written twice, first at {self._places[inner]}"))
            else:
                self._places[inner] = place
            value = self._value(next(self._events), inner, depth)
            entries.setdefault(name, value)
        return entries

    def _at(self, event: yaml.Event) -> str:
        mark = event.start_mark
        return self._name_place(mark.line + 1, mark.column + 1) if mark else self._name_place(1, 1)

    def _refuse(self, event: yaml.Event, key: str, message: str, hint: str = "") -> NoReturn:
        raise InputError([*self._repeated, Diagnostic(self._at(event), key, message, hint)])


def _scalar(event: yaml.ScalarEvent) -> Plain:
    """Return the value of a scalar: text when it is quoted or tagged as text, else what it looks like."""
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _without_aliases(events: Iterable[yaml.Event], refuse: Callable[..., NoReturn]) -> Iterator[yaml.Event]:
    """Replace each alias by the events of its anchor.

    This is lazy: whoever counts the events stops an alias bomb before it grows.
    """
    finished: dict[str, list[yaml.Event]] = {}
    recording: list[tuple[str, int, list[yaml.Event]]] = []
    depth = 0
    for event in events:
        replay: Iterable[yaml.Event] = (event,)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in finished:
                refuse(event, "", f"*{event.anchor} stands for nothing that is complete before it", "check the &anchor")
            replay = finished[event.anchor]
        elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            recording.append((event.anchor, depth, []))
        for each in replay:
            for _, _, record in recording:
                record.append(each)
            yield each
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        # A node is complete when the depth is again what it was where its anchor stood.
        while recording and recording[-1][1] == depth:
            anchor, _, record = recording.pop()
            finished[anchor] = record
