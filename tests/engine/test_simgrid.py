"""An independent referee of the fluid network: SimGrid, which others wrote, in its plain max-min model."""

import json
import os
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import networkx as nx
import pytest

from tests.engine.test_network import INFINITE, Demand, ends

NUM_CASES = 80
REFEREE = Path(__file__).with_name("simgrid_referee.py")
# Debian's package serves the system's Python, not a virtual environment's; -I keeps our own packages out of its sight.
SYSTEM_PYTHON = ["/usr/bin/python3", "-I"]


class Case(NamedTuple):
    bandwidths: list[float]
    latency: float
    demands: list[Demand]

    def described(self) -> dict[str, Any]:
        """The case as the referee reads it: a weight is how often the route names the link."""
        flows = [
            {
                "begin": demand.begin,
                "size": demand.size,
                "route": list(Counter(demand.weights).elements()),
                "limit": None if demand.limit == INFINITE else demand.limit,
            }
            for demand in self.demands
        ]
        return {"bandwidths": self.bandwidths, "latency": self.latency, "flows": flows}


def random_case(seed: int) -> Case:
    """Messages and steps of collectives (flows of several hops at once) over the shortest paths of a random graph."""
    random = Random(seed)
    nodes = random.randint(3, 12)
    cables = nx.compose(
        nx.random_labeled_tree(nodes, seed=seed), nx.gnm_random_graph(nodes, random.randint(0, nodes), seed=seed)
    )
    graph = cables.to_directed()
    links = {edge: link for link, edge in enumerate(graph.edges)}
    # Equal bandwidths fill many links at the same level, which is where rounding could go wrong.
    choices = [1e5, 2e5, 4e5] if seed % 2 else [random.uniform(1e5, 1e6) for _ in links]

    def demand() -> Demand:
        hops = [random.sample(range(nodes), 2) for _ in range(random.choice([1, 1, 1, 2, 4]))]
        paths = [nx.shortest_path(graph, *hop) for hop in hops]
        weights = Counter(links[edge] for path in paths for edge in pairwise(path))
        begin = random.choice([0.0, random.uniform(0.0, 10.0)])
        limit = random.choice([INFINITE, INFINITE, random.uniform(1e4, 1e6)])
        return Demand(begin, random.randint(100_000, 5_000_000), weights, limit)

    bandwidths = [random.choice(choices) for _ in links]
    latency = random.choice([0.0, random.uniform(0.001, 0.1)])
    return Case(bandwidths, latency, [demand() for _ in range(random.randint(2, 24))])


CASES = [random_case(seed) for seed in range(NUM_CASES)]


def simgrid_is_there() -> bool:
    try:
        done = subprocess.run([*SYSTEM_PYTHON, "-c", "import simgrid"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@pytest.fixture(scope="module")
def simgrid_ends() -> list[list[float]]:
    """When each flow of each case is done, by SimGrid."""
    if not simgrid_is_there():
        reason = "SimGrid is missing: apt-get install python3-simgrid (Debian, Ubuntu)"
        if os.environ.get("CI") or os.environ.get("PLANCAST_REQUIRE_SIMGRID"):
            pytest.fail(reason)
        pytest.skip(reason)
    question = json.dumps([case.described() for case in CASES])
    done = subprocess.run(
        [*SYSTEM_PYTHON, str(REFEREE)], input=question, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[list[float]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("seed", range(NUM_CASES))
def test_flows_end_when_simgrid_says(seed: int, simgrid_ends: list[list[float]]) -> None:
    bandwidths, latency, demands = CASES[seed]
    late = [demand._replace(begin=demand.begin + latency) for demand in demands]
    assert ends(bandwidths, late) == pytest.approx(simgrid_ends[seed], rel=1e-6, abs=0.0)
