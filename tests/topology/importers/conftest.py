"""Imports a fixture, writes the topology file, and reads it back as a user would."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.errors import InputError
from simulator.load import load_topology
from simulator.reports.yaml_text import yaml_text
from simulator.topology import Topology
from simulator.topology.importers import Facts, import_topology

FIXTURES = Path(__file__).parent / "fixtures"
Import = Callable[..., Topology]


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    """Import a file of fixtures/ (or a path); the rest are facts."""

    def run(kind: str, file: str | Path, **facts: Any) -> Topology:
        path = FIXTURES / file if isinstance(file, str) else file
        written = tmp_path / "imported.yaml"
        written.write_text(yaml_text(import_topology(kind, str(path), Facts(**facts), "lab")))
        return load_topology(str(written))

    return run


@pytest.fixture
def refused(imported: Import, tmp_path: Path) -> Callable[..., str]:
    """Import text and return the error."""

    def run(kind: str, text: str, **facts: Any) -> str:
        path = tmp_path / "given"
        path.write_text(text)
        with pytest.raises(InputError) as raised:
            imported(kind, path, **facts)
        return str(raised.value).replace(f"{tmp_path}/", "")

    return run
