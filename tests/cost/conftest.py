"""Small clusters from text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.load import load_topology
from simulator.topology import Topology

Build = Callable[[str], Topology]

HEAD = """\
name: lab
devices:
  gpu: {memory: 80 GB, memory_bandwidth: 2 TB/s, peak: {bf16: 100 TFLOP/s}, launch_overhead: 5 us, source: made up}
"""
STAR = """\
node:
  device: gpu
  count: 8
  switches: [switch]
  links:
    - {between: [device, switch], bandwidth: 20 GB/s, latency: 1 us, source: made up}
"""
BOXES = (
    STAR
    + """\
  uplinks:
    - {from: device, bandwidth: 2 GB/s, latency: 2 us, source: made up}
nodes: 4
fabric: {kind: switch, latency: 1 us, source: made up}
"""
)
MESH = """\
node:
  device: gpu
  count: 4
  links:
    - {between: [device, device], bandwidth: 10 GB/s, latency: 1 us, source: made up}
"""
LEAVES = """\
graph:
  devices: {d0: gpu, d1: gpu, d2: gpu, d3: gpu}
  switches: [s0, s1]
  links:
    - {between: [d0, s0], bandwidth: 20 GB/s, latency: 1 us, source: made up}
    - {between: [d1, s0], bandwidth: 20 GB/s, latency: 1 us, source: made up}
    - {between: [d2, s1], bandwidth: 20 GB/s, latency: 1 us, source: made up}
    - {between: [d3, s1], bandwidth: 20 GB/s, latency: 1 us, source: made up}
    - {between: [s0, s1], bandwidth: 10 GB/s, latency: 1 us, source: made up}
"""


@pytest.fixture
def built(tmp_path: Path) -> Build:
    def build(text: str) -> Topology:
        path = tmp_path / "lab.yaml"
        path.write_text(HEAD + text)
        return load_topology(str(path))

    return build


@pytest.fixture
def star(built: Build) -> Topology:
    """8 GPUs on one switch: 20 GB/s, 2 us from GPU to GPU."""
    return built(STAR)


@pytest.fixture
def boxes(built: Build) -> Topology:
    """4 such boxes; each GPU has a card of 2 GB/s, 5 us from GPU to GPU."""
    return built(BOXES)


@pytest.fixture
def mesh(built: Build) -> Topology:
    """4 GPUs, a link of 10 GB/s and 1 us between every two."""
    return built(MESH)


@pytest.fixture
def leaves(built: Build) -> Topology:
    """Two pairs of GPUs at 20 GB/s; 10 GB/s and 3 us between the pairs."""
    return built(LEAVES)
