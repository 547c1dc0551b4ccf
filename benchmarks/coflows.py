"""What coflows leave out: each algorithm priced in phases, beside all its transfers simulated one by one.

Usage: python benchmarks/coflows.py [--write]

--write puts both tables into docs/collectives.md. All runs at the links' own speed, without a library's protocols.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from sections import write_section

from simulator.cost.group import collective_seconds
from simulator.engine.audit import step_by_step_seconds
from simulator.load import load_topology
from simulator.topology import Collectives, Topology
from simulator.units import parse_bytes

CASES = (
    ("all_reduce", "ring"),
    ("all_reduce", "halving_doubling"),
    ("all_reduce", "hierarchical"),
    ("all_reduce", "tree"),
    ("all_gather", "ring"),
    ("all_to_all", "direct"),
    ("all_to_all", "pairwise"),
)
PLACES = {
    "8 GPUs, one switch": ("dgx-h100", ["topology.nodes=1"]),
    "4 x 8 GPUs, a card each": ("dgx-h100", ["topology.nodes=4"]),
    "2 x 4 GPUs, one card a node": ("two-node-ethernet", []),
}
SIZES = ("1 MiB", "256 MiB")

HASHED = "{kind: fat_tree, nodes_per_leaf: 2, oversubscription: 1, spines: 8, latency: 0.2 us, source: benchmark"
"""4 x 8 GPUs, 2 leaves of 16 cards, 16 cables up from each: two to each of 8 spines."""
SEEDS = range(1, 7)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    tables = {"coflows": ideal(), "hashed": hashed()}
    for name, table in tables.items():
        print("\n".join([*table, ""]))
        if arguments.write:
            write_section(Path(__file__).parents[1] / "docs" / "collectives.md", name, "\n".join(table))


def ideal() -> list[str]:
    """Return the table for fabrics without hashing."""
    places = {name: bare(*place) for name, place in PLACES.items()}
    table = [f"| algorithm | topology | {' | '.join(SIZES)} |", "|---|---|" + "---|" * len(SIZES)]
    for operation, algorithm in CASES:
        for name, topology in places.items():
            if algorithm == "hierarchical" and topology.num_nodes == 1:
                continue
            cells = [cell(topology, operation, algorithm, size) for size in SIZES]
            table.append(f"| {operation} {algorithm} | {name} | {' | '.join(cells)} |")
    return table


def hashed() -> list[str]:
    """Return the table for a fat tree that hashes: the coflow's error, and what hashing costs."""
    heads = [f"seed {seed}" for seed in SEEDS]
    table = [f"| algorithm, {SIZES[-1]} | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    size = parse_bytes(SIZES[-1])
    perfect = on_fat_tree("ideal")
    for operation, algorithm in CASES:
        without = collective_seconds(perfect, range(perfect.world_size), operation, size, algorithm)
        cells = []
        for seed in SEEDS:
            coflow, exact = compare(on_fat_tree(f"{{hash: {seed}}}"), operation, algorithm, size)
            cells.append(f"{coflow / exact - 1:+.1%} ({exact / without:.2f}x)")
        table.append(f"| {operation} {algorithm} | {' | '.join(cells)} |")
    return table


def on_fat_tree(ecmp: str) -> Topology:
    """Return 4 x 8 GPUs on a fat tree that spreads its traffic in a given way."""
    return bare("dgx-h100", ["topology.nodes=4", f"topology.fabric={HASHED}, ecmp: {ecmp}}}"])


def bare(name: str, settings: list[str]) -> Topology:
    """Return a topology without its library's protocols."""
    return replace(load_topology(name, settings), collectives=Collectives())


def compare(topology: Topology, operation: str, algorithm: str, size: float) -> tuple[float, float]:
    """Return the seconds of the coflow and of the transfers one by one."""
    ranks = range(topology.world_size)
    exact = step_by_step_seconds(topology, ranks, operation, size, algorithm)
    return collective_seconds(topology, ranks, operation, size, algorithm), exact


def cell(topology: Topology, operation: str, algorithm: str, size: str) -> str:
    """Return how far the coflow is from the transfers one by one."""
    coflow, exact = compare(topology, operation, algorithm, parse_bytes(size))
    return f"{coflow / exact - 1:+.2%}"


if __name__ == "__main__":
    main()
