"""The keys of one input file in the making, and where each of them comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.errors import Problems, quote
from simulator.inputs.fields import StrictModel

STATED = "stated"
"""What is said of a key whose value the row states."""


@dataclass(slots=True)
class Draft:
    """One input file in the making.

    Parameters
    ----------
    data
        Keys and values as a file would hold them.
    origins
        Key -> where its value comes from, in words.
    remarks
        What is true of the file as a whole.
    """

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def put(self, key: str, value: Any, origin: str = STATED) -> None:
        """Set a key and say where its value comes from."""
        self.data[key] = value
        self.origins[key] = origin

    def keep(self, schema: type[StrictModel], name: str, absent: Mapping[str, Any], problems: Problems) -> None:
        """Drop the keys that this version does not have where that changes nothing; report the others.

        Parameters
        ----------
        schema
            The file's keys.
        name
            The document's name, for messages.
        absent
            Key -> the value as which a version without it behaves; `REFINES` for keys that only make it more exact.
        problems
            Collects the keys that a row needs and that are not there.
        """
        for key in [key for key in self.data if key not in schema.model_fields]:
            value = self.data.pop(key)
            del self.origins[key]
            if absent.get(key, problems) is REFINES:
                self.remarks.append(f"{key}: {value} would be said if this version had the key")
            elif absent.get(key, problems) != value:
                problems.add(f"{name}.{key}", f"{quote(value)} is wanted, but the key is not there yet")


REFINES = object()
"""Stands for the value of a key that makes a prediction more exact, and without which there is one all the same."""
