"""The device library: files of `topologies/devices` under the keys that a topology writes itself."""

from __future__ import annotations

from functools import cache
from typing import Any

from simulator.inputs.plain_yaml import Plain
from simulator.inputs.presets import preset_path
from simulator.inputs.yaml_source import read_document

UNTOUCHED = ("from", "source")
"""Keys that change no number."""


def with_library(given: Any) -> Any:
    """Return the keys of a device with those of the library below them, where it is `from` there; else as given.

    What has a source of its own (`efficiency`) is merged key by key, all else replaced: a device that says its peaks
    has no others. A source that stays, though numbers beside it changed, says which.

    Raises
    ------
    InputError
        The library has no such device; says which there are.
    """
    if not isinstance(given, dict) or not isinstance(name := given.get("from"), str):
        return given
    return _merged(_library(name), given)


@cache
def _library(name: str) -> dict[str, Plain]:
    """Return the keys of a library file, those of its own `from` below them."""
    path = preset_path("topologies/devices", name)
    keys = with_library(read_document(str(path), "device").data)
    assert isinstance(keys, dict)
    return keys


def _merged(below: dict[str, Plain], above: dict[str, Plain]) -> dict[str, Plain]:
    merged = dict(below)
    for key, value in above.items():
        match below.get(key), value:
            case dict() as old, dict() as own if "source" in old:
                merged[key] = _merged(old, own)
            case _:
                merged[key] = value
    changed = [key for key in above if key not in UNTOUCHED]
    if changed and "source" in below and "source" not in above:
        merged["source"] = f"{str(below['source']).strip()} Changed here: {', '.join(changed)}."
    return merged
