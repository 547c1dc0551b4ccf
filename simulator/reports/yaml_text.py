"""Plain data as YAML that people read: an entry of a list in one line, and long text that repeats written once."""

from typing import Any

import yaml

WIDTH = 120
"""Columns, as in the shipped files."""

LONG = 40
"""Characters; shorter text that repeats is repeated."""


class _Text(str):
    """Long text, one object for all places where it stands; YAML writes it once (&id) and refers to it (*id)."""

    __slots__ = ()


class _Row(dict[str, Any]):
    """A mapping that stands in one line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return not isinstance(data, _Text)


_Dumper.add_representer(_Text, lambda dumper, text: dumper.represent_str(str(text)))
_Dumper.add_representer(
    _Row, lambda dumper, row: dumper.represent_mapping("tag:yaml.org,2002:map", row, flow_style=True)
)


def yaml_text(data: dict[str, Any]) -> str:
    """Return the data as YAML; what is read from it equals the data.

    Examples
    --------
    >>> print(yaml_text({"name": "lab", "links": [{"between": ["a", "b"], "latency": "1 us"}]}), end="")
    name: lab
    links:
    - {between: [a, b], latency: 1 us}
    """
    prepared = _prepared(data, {})
    text: str = yaml.dump(prepared, Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True)
    return text


def _prepared(value: Any, known: dict[str, _Text]) -> Any:
    if isinstance(value, str):
        return known.setdefault(value, _Text(value)) if len(value) > LONG else value
    if isinstance(value, list):
        return [_row(each, known) if isinstance(each, dict) else _prepared(each, known) for each in value]
    if isinstance(value, dict):
        return {key: _prepared(each, known) for key, each in value.items()}
    return value


def _row(value: dict[str, Any], known: dict[str, _Text]) -> dict[str, Any]:
    """A list's entry in one line, unless it has a list of such entries inside."""
    inner = [each for each in value.values() if isinstance(each, list)]
    prepared: dict[str, Any] = _prepared(value, known)
    return prepared if any(isinstance(each, dict) for entries in inner for each in entries) else _Row(prepared)
