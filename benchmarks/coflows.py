"""What coflows leave out: each algorithm priced in phases, beside all its transfers simulated one by one.

Usage: python benchmarks/coflows.py [--write]

--write puts the table into docs/collectives.md. Everything runs at the links' own speed, without a library's protocols.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from sections import write_section

from simulator.cost.group import collective_seconds
from simulator.engine.audit import step_by_step_seconds
from simulator.load import load_topology
from simulator.topology import Collectives, Topology
from simulator.units import format_seconds, parse_bytes

CASES = (
    ("all_reduce", "ring"),
    ("all_reduce", "halving_doubling"),
    ("all_reduce", "hierarchical"),
    ("all_reduce", "tree"),
    ("all_gather", "ring"),
    ("all_to_all", "direct"),
    ("all_to_all", "pairwise"),
)
PLACES = {"8 GPUs, one switch": ("dgx-h100", 1), "4 x 8 GPUs, a card each": ("dgx-h100", 4)}
SHARED_CARD = ("2 x 4 GPUs, one card a node", "two-node-ethernet", 2)
SIZES = ("1 MiB", "256 MiB")


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    places = {name: bare(*place) for name, place in PLACES.items()} | {SHARED_CARD[0]: bare(*SHARED_CARD[1:])}
    table = [f"| algorithm | topology | {' | '.join(SIZES)} |", "|---|---|" + "---|" * len(SIZES)]
    for operation, algorithm in CASES:
        for name, topology in places.items():
            if algorithm == "hierarchical" and topology.num_nodes == 1:
                continue
            cells = [compare(topology, operation, algorithm, parse_bytes(size)) for size in SIZES]
            table.append(f"| {operation} {algorithm} | {name} | {' | '.join(cells)} |")
            print(table[-1], flush=True)
    if arguments.write:
        write_section(Path(__file__).parents[1] / "docs" / "collectives.md", "coflows", "\n".join(table))


def bare(name: str, nodes: int) -> Topology:
    """Return a topology without its library's protocols."""
    return replace(load_topology(name, [f"topology.nodes={nodes}"]), collectives=Collectives())


def compare(topology: Topology, operation: str, algorithm: str, size: float) -> str:
    """Return how far the coflow is from the transfers one by one, and how long those took to simulate."""
    ranks = range(topology.world_size)
    begin = time.perf_counter()
    exact = step_by_step_seconds(topology, ranks, operation, size, algorithm)
    wall = time.perf_counter() - begin
    coflow = collective_seconds(topology, ranks, operation, size, algorithm)
    return f"{coflow / exact - 1:+.2%} (simulated in {format_seconds(wall)})"


if __name__ == "__main__":
    main()
