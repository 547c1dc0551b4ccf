"""Coflows against step-by-step flows: equal on ideal fabrics to 0.1 %."""

from dataclasses import replace

import pytest

from simulator.cost.group import collective_seconds
from simulator.engine.audit import step_by_step_seconds
from simulator.load import load_topology
from simulator.topology import Collectives, Topology

SIZES = (1e6, 256e6)


ANYWHERE = (
    ("all_reduce", "ring"),
    ("all_gather", "ring"),
    ("reduce_scatter", "ring"),
    ("all_reduce", "halving_doubling"),
    ("all_to_all", "direct"),
    ("all_reduce", "direct"),
)
BETWEEN_NODES = (("all_reduce", "hierarchical"), ("all_gather", "hierarchical"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("operation", "algorithm", "nodes"),
    [(*case, nodes) for nodes in (1, 2) for case in ANYWHERE] + [(*case, 2) for case in BETWEEN_NODES],
)
def test_coflows_are_exact(operation: str, algorithm: str, size: float, nodes: int) -> None:
    topology = bare("dgx-h100", nodes)
    ranks = range(topology.world_size)
    coflow = collective_seconds(topology, ranks, operation, size, algorithm)
    assert coflow == pytest.approx(step_by_step_seconds(topology, ranks, operation, size, algorithm), rel=1e-3)


def test_chunks_go_up_and_down_a_chain() -> None:
    # Two ranks, two trees: each sends its half up in one and down in the other, 16 pieces at once in either direction.
    topology = bare("dgx-h100", 1)
    size, latency, bandwidth = 256e6, 2e-6, 450e9
    piece = size / 2 / 16
    # Up: 16 pieces; the sum of the last one comes down. Both trees share each direction only while both have pieces.
    fastest = 2 * latency + (16 + 1) * piece / bandwidth
    slowest = 2 * latency + 2 * (16 + 1) * piece / bandwidth
    assert fastest <= step_by_step_seconds(topology, range(2), "all_reduce", size, "tree") <= slowest


def bare(name: str, nodes: int) -> Topology:
    """A shipped topology without its library's protocols, which the audit does not know."""
    return replace(load_topology(name, [f"topology.nodes={nodes}"]), collectives=Collectives())
