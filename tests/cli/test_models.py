"""The list of presets, and the table of it in the documentation."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from simulator.inputs.presets import preset_names
from simulator.model.huggingface import KINDS
from simulator.model.schema import FAMILIES

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()


def test_every_preset_is_listed_once_in_every_format(run: Any) -> None:
    rows = json.loads(run("models", "--format", "json").out)
    assert sorted(row["name"] for row in rows) == preset_names("models")
    (megatron,) = (row for row in rows if row["name"] == "megatron-145.6b")
    assert (megatron["family"], megatron["parameters"], megatron["sequence_length"]) == ("gpt", 145622261760, 2048)
    assert [row["name"] for row in csv.DictReader(io.StringIO(run("models", "--format", "csv").out))] == [
        row["name"] for row in rows
    ]
    assert "145,622,261,760" in run("models").out


def test_the_documentation_shows_the_table_as_the_command_prints_it(run: Any) -> None:
    assert run("models", "--format", "markdown").out in PAGE, "plancast models --format markdown"


def test_the_documentation_names_every_family_and_architecture() -> None:
    assert [name for name in (*FAMILIES, *KINDS) if f"`{name}`" not in PAGE] == []
