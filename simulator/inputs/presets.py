"""The YAML files that come with plancast, by name."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from simulator.errors import Problems

Kind = Literal["models", "plans", "topologies", "topologies/devices"]

_PACKAGE = Path(__file__).resolve().parents[1]


def preset_names(kind: Kind) -> list[str]:
    """Return the names of all presets of a kind, sorted.

    Parameters
    ----------
    kind
        A folder of them: ``"models"``, ``"plans"``, ``"topologies"`` or ``"topologies/devices"``.
    """
    return sorted(path.stem for path in _folder(kind).glob("*.yaml"))


def preset_path(kind: Kind, name: str) -> Path:
    """Return the file of a preset, in a checkout as in an installed wheel.

    Parameters
    ----------
    kind
        A folder of them: ``"models"``, ``"plans"``, ``"topologies"`` or ``"topologies/devices"``.
    name
        The file's name without ``.yaml``.

    Raises
    ------
    InputError
        There is no such preset; says which there are.
    """
    names = preset_names(kind)
    if name not in names:
        close = get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"
        problems = Problems()
        problems.add(kind, f'no preset is called "{name}"', hint)
        problems.raise_if_any()
    return _folder(kind) / f"{name}.yaml"


def _folder(kind: Kind) -> Path:
    """Return where a kind lies: a wheel carries it inside the package, a checkout beside it."""
    packaged = _PACKAGE / "presets" / kind
    return packaged if packaged.is_dir() else _PACKAGE.parent / kind
