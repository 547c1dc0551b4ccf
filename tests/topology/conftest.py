"""Builds topologies from the files that are shipped and from text."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from simulator.errors import Problems
from simulator.inputs.validate import validate
from simulator.inputs.yaml_source import read_document
from simulator.topology import Topology, TopologySchema, build_topology

TOPOLOGIES = Path(__file__).parents[2] / "topologies"

Build = Callable[..., Topology]


def build_file(path: Path, overrides: Mapping[str, str]) -> Topology:
    """Read, validate and build a topology file; raise `InputError` with everything that is wrong with it."""
    document = read_document(str(path), "topology")
    for key, value in overrides.items():
        document.override(key, value)
    problems = Problems(document.locate)
    spec = validate(document, TopologySchema, problems)
    topology = build_topology(spec, problems) if spec is not None else None
    problems.raise_if_any()
    assert topology is not None
    return topology


@pytest.fixture
def shipped() -> Build:
    """Build a file of topologies/ by name; further arguments are `--set` overrides."""
    return lambda name, overrides=None: build_file(TOPOLOGIES / f"{name}.yaml", overrides or {})


@pytest.fixture
def built(tmp_path: Path) -> Build:
    """Build from text, with a device kind `gpu` already there."""

    def build(text: str, overrides: Mapping[str, str] | None = None) -> Topology:
        path = tmp_path / "lab.yaml"
        path.write_text(HEAD + text)
        return build_file(path, overrides or {})

    return build


HEAD = """\
name: lab
devices:
  gpu: {memory: 80 GB, memory_bandwidth: 2 TB/s, peak: {bf16: 100 TFLOP/s}, launch_overhead: 5 us, source: made up}
"""
