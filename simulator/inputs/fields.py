"""The types that input schemas are made of.

A dimensioned value is text with a unit in the file and a float in SI units in the object: ``Bytes``, ``Bandwidth``
(bytes/s), ``Seconds``, ``FlopRate`` (FLOP/s) and ``Fraction`` (1). Nothing is converted silently: ``true`` is no count,
``2.0`` is no whole number, and ``405`` is no name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, Strict
from pydantic import GetJsonSchemaHandler as JsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from simulator.errors import quote
from simulator.units import parse_bandwidth, parse_bytes, parse_flop_rate, parse_fraction, parse_seconds

__all__ = [
    "Bandwidth",
    "Bytes",
    "Flag",
    "FlopRate",
    "Fraction",
    "Name",
    "NonNegativeInt",
    "NonNegativeNumber",
    "OverlapFraction",
    "PositiveFraction",
    "PositiveInt",
    "PositiveNumber",
    "PositiveScale",
    "PositiveSeconds",
    "Quantity",
    "Seconds",
    "StrictModel",
    "Text",
]

MAX_INT = 2**53
"""Largest count accepted; above it a float no longer holds every whole number."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,99}")


class StrictModel(BaseModel):
    """Base of every input schema: an unknown key is an error, and the object cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Quantity:
    """Marks a float field as text with a unit; the JSON Schema then says string, with the examples.

    Parameters
    ----------
    parse
        Turns the text into SI units, or raises a `ValueError` that says what to write instead.
    examples
        Values that the editor offers.
    zero
        Whether zero is legal.
    maximum
        Largest legal value, in SI units.
    """

    parse: Callable[[str], float]
    examples: Sequence[str]
    zero: bool = False
    maximum: float = math.inf

    def read(self, given: object) -> float:
        """Return the value in SI units, or raise a `ValueError` that says what to write instead."""
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise ValueError(f"{quote(given)} is not a number with a unit; write, say, {self.examples[0]}")
        # A bare number goes to the parser too, whose refusal names the units to choose from.
        value = self.parse(given if isinstance(given, str) else quote(given))
        if value < 0:
            raise ValueError(f"{quote(given)} is negative; write, say, {self.examples[0]}")
        if value == 0 and not self.zero:
            raise ValueError(f"{quote(given)} is zero; write, say, {self.examples[0]}")
        if value > self.maximum:
            raise ValueError(f"{quote(given)} is too much; write, say, {self.examples[0]}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: JsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "examples": list(self.examples)}


def _check_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{quote(text)} is not a name; use at most 100 letters, digits and . _ - + /")
    return text


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; write some text")
    return text


def _read_number(given: object) -> float:
    # PyYAML's notion of a float needs a point, so that 1e-6 arrives here as text.
    try:
        value = math.nan if isinstance(given, bool) else float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{quote(given)} is not a finite number; write, say, 1.25")
    return value


Bytes = Annotated[float, Quantity(parse_bytes, ("80 GiB", "40 GB"))]
"""Bytes, more than zero."""

Bandwidth = Annotated[float, Quantity(parse_bandwidth, ("400 Gb/s", "450 GB/s"))]
"""Bytes/s, more than zero."""

Seconds = Annotated[float, Quantity(parse_seconds, ("1.5 us", "2 ms"), zero=True)]
"""Seconds; zero is legal, as for a latency."""

PositiveSeconds = Annotated[float, Quantity(parse_seconds, ("10 min", "4 h"))]
"""Seconds, more than zero."""

FlopRate = Annotated[float, Quantity(parse_flop_rate, ("312 TFLOP/s", "19.5 TFLOP/s"))]
"""FLOP/s, more than zero."""

Fraction = Annotated[float, Quantity(parse_fraction, ("80%", "2.5%"), zero=True, maximum=1.0)]
"""A fraction (1) from 0% to 100%."""

PositiveFraction = Annotated[float, Quantity(parse_fraction, ("80%", "2.5%"), maximum=1.0)]
"""A fraction (1) above 0%, up to 100%."""

OverlapFraction = Annotated[float, Quantity(parse_fraction, ("15%", "2.5%"), zero=True, maximum=0.9)]
"""A fraction (1) from 0% to 90%: what remains must be worth calling overlap."""
PositiveScale = Annotated[float, Quantity(parse_fraction, ("85%", "170%"))]
"""A multiple (1) above 0%; more than 100% is legal."""

PositiveInt = Annotated[int, Strict(), Field(ge=1, le=MAX_INT)]
"""A count of at least one."""

NonNegativeInt = Annotated[int, Strict(), Field(ge=0, le=MAX_INT)]
"""A count or an index."""

PositiveNumber = Annotated[float, BeforeValidator(_read_number), Field(gt=0)]
"""A number without dimension, more than zero, such as a multiplier."""

NonNegativeNumber = Annotated[float, BeforeValidator(_read_number), Field(ge=0)]
"""A number without dimension, zero or more."""

Flag = Annotated[bool, Strict()]
"""true or false."""

Name = Annotated[str, Strict(), AfterValidator(_check_name)]
"""A name that other keys may refer to."""

Text = Annotated[str, Strict(), AfterValidator(_check_text)]
"""Words for people, such as the source of a number."""
