"""A document against its schema: every mistake becomes a problem in the user's own words and at the user's own key."""

from __future__ import annotations

import copy
import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from simulator.errors import Problems, quote
from simulator.inputs.fields import Quantity, StrictModel
from simulator.inputs.plain_yaml import Plain
from simulator.inputs.yaml_source import Document

__all__ = ["did_you_mean", "validate"]

Schema = TypeVar("Schema", bound=StrictModel)

MAX_ERRORS = 1000
"""Mistakes of one document that are explained; the rest is counted."""

_LONGEST_GUESS = 64
"""Characters; comparing longer words takes too long, and they are no slips of the finger."""

# By pydantic's error type: what is wrong and what to do. {given} is the value, the rest comes from the error's context.
_TEXTS: Mapping[str, tuple[str, str]] = {
    "bool_type": ("{given} is not true or false", "write true or false"),
    "dict_type": ("{given} is not a mapping", "write keys and values"),
    "float_type": ("{given} is not a number", ""),
    "greater_than": ("{given} is not more than {gt}", ""),
    "greater_than_equal": ("{given} is less than {ge}", "write {ge} or more"),
    "int_from_float": ("{given} is not a whole number", ""),
    "int_type": ("{given} is not a whole number", ""),
    "less_than": ("{given} is not less than {lt}", ""),
    "less_than_equal": ("{given} is more than {le}", "write {le} or less"),
    "list_type": ("{given} is not a list", "write [first, second]"),
    "model_type": ("{given} is not a mapping", "write keys and values"),
    "string_type": ("{given} is not text", "put it in quotes"),
    "too_long": ("has {actual_length} entries, at most {max_length} are allowed", ""),
    "too_short": ("has {actual_length} entries, at least {min_length} are needed", ""),
    "tuple_type": ("{given} is not a list", "write [first, second]"),
}


def validate(document: Document, schema: type[Schema], problems: Problems) -> Schema | None:
    """Return the document as an object of `schema`, or None after telling `problems` all that is wrong with it.

    If unknown keys are all that is wrong, the object is returned as it was probably meant (each as the known key
    that it resembles, or left out), so that contradictions between values are found in the same go.

    Parameters
    ----------
    document
        What the user wrote.
    schema
        What may be written.
    problems
        Receives each mistake under its dotted key, with the document's name first.
    """
    try:
        return schema.model_validate(document.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    found: dict[str, list[tuple[str, str]]] = {}
    given: dict[str, str] = {}
    unknown: list[ErrorDetails] = []
    for detail in details[:MAX_ERRORS]:
        if (explained := _explain(document, schema, detail)) is not None:
            key, message, hint = explained
            found.setdefault(key, []).append((message, hint))
            given[key] = quote(detail["input"])
            unknown += [detail] * (detail["type"] == "extra_forbidden")
    for key, texts in found.items():
        problems.add(key, *_joined(given[key], texts))
    if not found:
        problems.add(document.name, f"is wrong: {details[0]['msg']}")
    if len(details) > MAX_ERRORS:
        problems.add(document.name, f"{len(details) - MAX_ERRORS:,} more errors are not shown")
    return _as_meant(document, schema, unknown) if len(details) < MAX_ERRORS else None


def _as_meant(document: Document, schema: type[Schema], unknown: Sequence[ErrorDetails]) -> Schema | None:
    """Return the document with its unknown keys replaced by what they resemble; None if more is wrong."""
    data = copy.deepcopy(document.data)
    for detail in unknown:
        *steps, name = _real_steps(document.data, detail["loc"])
        place: Any = data
        for step in steps:
            place = place[int(step) if isinstance(place, list) else step]
        value = place.pop(name, None)
        for known in nearest(name, _fields_at(schema, document.data, steps)):
            place.setdefault(known, value)
    try:
        return schema.model_validate(data)
    except ValidationError:
        return None


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest of the known words; empty when none is near."""
    return "".join(f"did you mean {word}?" for word in nearest(given, known))


def nearest(given: str, known: Iterable[str]) -> list[str]:
    """Return the nearest of the known words, if one is near."""
    if len(given) > _LONGEST_GUESS:
        return []
    by_lower = {word.lower(): word for word in known}
    return [by_lower[word] for word in difflib.get_close_matches(given.lower(), by_lower, n=1)]


def _joined(given: str, texts: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Make one message of what each type has to say where a value may be one of several types."""
    first, *others = dict.fromkeys(message for message, _ in texts)
    hints = dict.fromkeys(hint for _, hint in texts if hint)
    # The value need not be repeated: "5 GB/s" is not a size and is not auto.
    return " and ".join([first, *(other.removeprefix(f"{given} ") for other in others)]), ", or ".join(hints)


def _explain(document: Document, schema: type[BaseModel], detail: ErrorDetails) -> tuple[str, str, str] | None:
    """Return the dotted key, the message and the hint for one of pydantic's errors; None if it is beside the point."""
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    steps = _real_steps(document.data, detail["loc"])
    key = ".".join([document.name, *steps])
    if kind in ("extra_forbidden", "missing"):
        return _explain_key(document, schema, detail)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        key = f"{key}.{context['discriminator'].strip(chr(39))}"
        if kind == "union_tag_not_found":
            return key, "is missing", "it says which kind this is"
        return key, *_one_of(context["tag"], context["expected_tags"])
    if given is None:
        return key, "has no value", ""
    if kind in ("literal_error", "enum"):
        return key, *_one_of(given, context["expected"])
    if kind == "value_error":
        message, _, hint = str(context["error"]).partition("; ")
        return key, message, hint
    message, hint = _TEXTS.get(kind, ("{given} is wrong: {msg}", ""))
    words = {"given": quote(given), "msg": detail["msg"], **context}
    return key, message.format(**words), hint.format(**words)


def _explain_key(document: Document, schema: type[BaseModel], detail: ErrorDetails) -> tuple[str, str, str] | None:
    """Explain an unknown or a missing key, unless it is so only for a union member that was not meant."""
    *_, name = map(str, detail["loc"])
    unknown = detail["type"] == "extra_forbidden"
    steps = _real_steps(document.data, detail["loc"][:-1])
    known = _fields_at(schema, document.data, steps)
    if (name in known) == unknown:
        return None
    key = ".".join([document.name, *steps, name])
    if unknown:
        return key, "unknown key", did_you_mean(name, known) or f"known: {', '.join(known)}"
    return key, "is missing", _advertise(name, known[name])


def _one_of(given: object, expected: str) -> tuple[str, str]:
    """Return message and hint for a word that is not among those that pydantic lists in `expected`."""
    known = re.findall(r"'([^']*)'", expected) or [expected]
    return f"{quote(given)} is not {' or '.join(known)}", did_you_mean(str(given), known)


def _real_steps(data: Plain, loc: Sequence[int | str]) -> list[str]:
    """Return the keys in pydantic's `loc` that the user wrote; the names of union members and the like drop out."""
    steps: list[str] = []
    for part in loc:
        if isinstance(data, dict) and str(part) in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        steps.append(str(part))
    return steps


def _fields_at(schema: type[BaseModel], data: Plain, steps: Sequence[str]) -> dict[str, FieldInfo]:
    """Return what may be written in the mapping that `steps` lead to, by key."""
    annotations: list[Any] = [schema]
    for step in steps:
        annotations = [inner for annotation in annotations for inner in _inside(annotation, step)]
        data = data[step] if isinstance(data, dict) else data[int(step)] if isinstance(data, list) else None
    models = [each for each in annotations if isinstance(each, type) and issubclass(each, BaseModel)]
    # Of the members of a union, those are meant whose `kind` (or other literal) is the one that was written.
    meant = [model for model in models if _literals_agree(model, data)] or models
    return {key: field for model in meant for key, field in _keys(model).items()}


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _literals_agree(model: type[BaseModel], data: Plain) -> bool:
    written = data if isinstance(data, dict) else {}
    return all(
        written[key] in get_args(field.annotation)
        for key, field in _keys(model).items()
        if key in written and get_origin(field.annotation) is Literal
    )


def _inside(annotation: Any, step: str) -> Iterator[Any]:
    """Yield the types that may stand at `step` inside a value of type `annotation`, unions taken apart."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = _keys(annotation).get(step)
        yield from _members(field.annotation) if field else ()
    elif get_origin(annotation) is dict:
        yield from _members(get_args(annotation)[1])
    else:
        for inner in get_args(annotation):
            yield from _members(inner)


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the types that a union stands for; anything else stands for itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _advertise(name: str, field: FieldInfo) -> str:
    """Return a hint that shows how a missing key is written, as far as the schema says so."""
    example = next((each.examples[0] for each in field.metadata if isinstance(each, Quantity)), "")
    if get_origin(field.annotation) is Literal:
        example = " or ".join(str(value) for value in get_args(field.annotation))
    return f"write {name}: {example}" if example else field.description or ""
