"""A lab that is up: what was built, in one file that survives whoever built it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from simulator.errors import Diagnostic, InputError
from simulator.netlab.blueprint import Blueprint

FOLDER = Path("/run/plancast")
"""Where the files of labs lie: emptied when the machine starts, as its namespaces are."""

PREFIX = "plancast"
"""How the names of all namespaces begin; nothing else is ever touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Namespaces of this machine that stand for a topology.

    Parameters
    ----------
    name
        Labs of different names do not meet.
    topology
        Name of what it stands for.
    blueprint
        What was built.
    delayed
        Whether frames are held back for the latency of their link; without netem in the kernel they are not.
    """

    name: str
    topology: str
    blueprint: Blueprint
    delayed: bool

    @property
    def path(self) -> Path:
        """Its file."""
        return path_of(self.name)

    def namespace(self, space: int) -> str:
        """Return the kernel's name of a namespace."""
        return namespace(self.name, self.blueprint.spaces[space].name)

    @property
    def namespaces(self) -> list[str]:
        """Names of all namespaces."""
        return [self.namespace(space) for space in range(len(self.blueprint.spaces))]

    def save(self, new: bool = False) -> None:
        """Write the file whole; a new lab's must not be there yet, else FileExistsError."""
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        partial = self.path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        if not new:
            partial.replace(self.path)
            return
        try:
            os.link(partial, self.path)
        finally:
            partial.unlink()

    def processes(self) -> list[int]:
        """Return the ids of all processes in its namespaces."""
        found = []
        for name in set(existing()) & set(self.namespaces):
            told = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
            found += [int(word) for word in told.stdout.split()]
        return sorted(found)


def lab_name() -> str:
    """Return the lab that is meant: PLANCAST_LAB, for those who need several, else ``lab``.

    Raises
    ------
    InputError
        It is no name for a namespace.
    """
    name = os.environ.get("PLANCAST_LAB", "lab")
    if not re.fullmatch(r"[\w-]{1,32}", name):
        message = "names a lab in up to 32 letters, digits, - and _"
        raise InputError([Diagnostic(f"PLANCAST_LAB={name}", "", message, "leave it out for the lab called lab")])
    return name


def namespace(lab: str, space: str) -> str:
    """Return the kernel's name of a namespace of a lab."""
    return f"{PREFIX}-{lab}-{space}"


def path_of(name: str) -> Path:
    """Return the file of a lab."""
    return FOLDER / f"{name}.json"


def find(name: str) -> Lab | None:
    """Return a lab that is up, None if there is none of the name."""
    try:
        data = json.loads(path_of(name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Lab(**data | {"blueprint": Blueprint.from_json(data["blueprint"])})


def existing() -> Sequence[str]:
    """Return the names of all network namespaces of this machine."""
    told = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in told.stdout.splitlines() if line]
