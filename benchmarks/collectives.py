"""Published nccl-tests figures beside predictions; and the fit of the protocols in topologies/.

Usage: python benchmarks/collectives.py [--measured FILE] [--rows] [--write] [--fit NAME ...] [--save]

Prints the error per hardware and the worst rows (with --rows also every row); --write puts both into
docs/collectives.md. --fit prints the `protocols:` of each named topology, fitted only on rows whose role is
`calibration`; --save writes them to the topology's file, whose last key they are.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import ceil, log
from pathlib import Path
from statistics import median

from misses import Compared, describe_misses
from protocol_fit import GIGABYTE_PER_SECOND, MICROSECOND, Line, fit_block
from sections import write_section

from simulator.cost.group import Group, bus_factor
from simulator.load import load_topology
from simulator.units import format_bytes, format_seconds, parse_bytes

ROOT = Path(__file__).parents[1]
MEASURED = ROOT.parent / "shared" / "measured" / "collectives.csv"
OPERATIONS = {"alltoall": "all_to_all", "sendrecv": "send"}
"""What the file calls differently."""

MACHINES = {
    "A100-SXM4-80GB": "dgx-a100",
    "A100-SXM4-80GB (DGX)": "dgx-a100",
    "A100 (DGX class)": "dgx-a100",
    "H100-SXM5-80GB": "dgx-h100",
    "H200-SXM": "dgx-h200",
    "H200-SXM-141GB": "dgx-h200",
    "B200-SXM": "dgx-b200",
    "B300-SXM": "dgx-b300",
    "GB200": "gb200-nvl72",
    "GB200-NVL72": "gb200-nvl72",
    "GB300": "gb300-nvl72",
    "GB300-NVL72": "gb300-nvl72",
    "L40S (PCIe)": "l40s-box",
    "MI300X": "mi300x",
    "V100 (DGX class)": "dgx-1v",
}
"""Hardware in the file -> topology, where there is one."""

BLACKWELL = ("dgx-b200", "dgx-b300", "gb200-nvl72", "gb300-nvl72")
"""Machines with the same NVLinks and the same library: the first has one fit on the rows of all, for all."""

BORROWERS = ("dgx-h200", *BLACKWELL)
LENDER, FEW = "dgx-h100", 20
"""NCCL machines with fewer rows than this over several nodes are fitted on the lender's as well: it has the only ones
on a stated network, and protocols belong to the library."""

RACK = 72
"""GPUs of an NVL72 rack, which is a node here; the file counts its trays."""

PRESETS = {path.stem for path in (ROOT / "topologies").glob("*.yaml")}

UNKNOWN_NETWORK = ("not stated", "class RDMA")
"""Networks that no topology can describe: not stated, or a cloud's between racks whose cards are named by their class.

Two racks of GB300 there bring an all-to-all to 24 GB/s a GPU, a quarter of such a card, where the same grouped sends
and receives reach 39 to 46 GB/s of 50 on MI355X (RCCL, 2 and 4 nodes, rows of the same file): that is the network's.
"""

LARGE = parse_bytes("16 MiB")
GOALS = {True: 0.10, False: 0.25}
"""Goal for the median |error| of large and of small messages."""


@dataclass(frozen=True, slots=True)
class Row:
    """One published figure: seconds for ``size`` bytes among ``gpus`` ranks on ``nodes`` nodes."""

    hardware: str
    topology: str
    nodes: int
    gpus: int
    operation: str
    size: float
    seconds: float
    algorithm: str | None
    role: str
    settings: str


def read_rows(path: Path) -> list[Row]:
    """Read all rows that have a topology, an operation that is modelled, and a time."""
    rows = []
    with path.open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            operation = OPERATIONS.get(line["op"], line["op"])
            known = MACHINES.get(line["hardware"]) in PRESETS
            usable = known and not any(word in line["network"] for word in UNKNOWN_NETWORK)
            if not usable or operation.startswith("moe") or not (line["nodes"] and float(line["bytes"])):
                continue
            size, gpus = float(line["bytes"]), int(line["gpus"])
            if line["time_us"]:
                seconds = float(line["time_us"]) * MICROSECOND
            else:
                seconds = size * bus_factor(operation, gpus) / (float(line["busbw_GBps"]) * GIGABYTE_PER_SECOND)
            rows.append(
                Row(
                    hardware=line["hardware"],
                    topology=MACHINES[line["hardware"]],
                    nodes=ceil(gpus / RACK) if "nvl72" in MACHINES[line["hardware"]] else int(line["nodes"]),
                    gpus=gpus,
                    operation=operation,
                    size=size,
                    seconds=seconds,
                    algorithm="ring" if "NCCL_ALGO=Ring" in line["algo_or_settings"] else None,
                    role=line["role"],
                    settings=line["algo_or_settings"],
                )
            )
    return rows


@cache
def group(topology: str, nodes: int, gpus: int) -> Group:
    """Return the first GPUs of each node as a group."""
    built = load_topology(topology, [f"topology.nodes={nodes}"] if nodes > 1 else [])
    width = built.devices_per_node
    each = gpus // nodes
    return Group(built, [node * width + local for node in range(nodes) for local in range(each)])


def predict(row: Row) -> tuple[float, str]:
    """Return the seconds that are predicted for a row, and by which algorithm and protocol."""
    place = group(row.topology, row.nodes, row.gpus)
    if row.algorithm:
        option = place.options(row.operation, row.size, row.algorithm)[0]
    else:
        option = place.choose(row.operation, row.size)
    return option.seconds, f"{option.algorithm} {option.protocol}"


def summarise(rows: Iterable[Row]) -> list[str]:
    """Return a Markdown table: medians of |error| per hardware and role, for large and for small messages."""
    errors: dict[tuple[str, str], dict[bool, list[float]]] = defaultdict(lambda: {True: [], False: []})
    for row in rows:
        error = predict(row)[0] / row.seconds - 1
        for hardware in (row.hardware, "all"):
            errors[hardware, row.role][row.size >= LARGE].append(error)
    table = [
        "| hardware | rows | sizes >= 16 MiB: median \\|error\\| | worst | small sizes: median \\|error\\| | worst |",
        "|---|---|---|---|---|---|",
    ]
    for (hardware, role), parts in sorted(errors.items(), key=lambda item: (item[0][0] == "all", item[0])):
        cells = [_cells(parts[large], GOALS[large]) for large in (True, False)]
        table.append(f"| {hardware} | {role}, {sum(map(len, parts.values()))} | {' | '.join(cells)} |")
    return table


def compare(row: Row) -> Compared:
    """Return a row beside its prediction."""
    seconds, how = predict(row)
    return Compared(
        hardware=row.hardware,
        operation=row.operation,
        nodes=row.nodes,
        gpus=row.gpus,
        size=row.size,
        role=row.role,
        measured=row.seconds,
        predicted=seconds,
        how=how,
    )


def _cells(errors: list[float], goal: float) -> str:
    if not errors:
        return " | "
    typical, worst = median(map(abs, errors)), max(errors, key=abs)
    return f"{typical:.1%}{'' if typical <= goal else ' (goal missed)'} | {worst:+.0%}"


def print_rows(rows: Iterable[Row]) -> None:
    """Print every row with its prediction."""
    for row in rows:
        seconds, how = predict(row)
        print(
            f"{row.hardware:22} {row.nodes}x{row.gpus // row.nodes} {row.operation:14} {format_bytes(row.size):>9} "
            f"{row.role:11} measured {format_seconds(row.seconds):>9} predicted {format_seconds(seconds):>9} "
            f"{seconds / row.seconds - 1:+7.1%}  {how:18} {row.settings}"
        )


def fit(name: str, rows: list[Row]) -> str:
    """Return the `protocols:` of a topology from its calibration rows."""
    known = [row for row in rows if row.role == "calibration"]
    used = [row for row in known if row.topology in (BLACKWELL if name in BLACKWELL else (name,))]
    hardware = ", ".join(sorted({row.hardware for row in used}))
    source = f"fitted on the {len(used)} calibration rows of published nccl-tests figures for {hardware}"
    if name in BORROWERS and sum(row.nodes > 1 for row in used) < FEW:
        lent = [row for row in known if row.topology == LENDER and row.nodes > 1]
        source += f", and over several nodes on {len(lent)} for {', '.join(sorted({row.hardware for row in lent}))}"
        used += lent
    lines = [_line(row) for row in used]
    return fit_block(lines, source, by=Path(__file__).name)


def _line(row: Row) -> Line:
    place = group(row.topology, row.nodes, row.gpus)
    names = [row.algorithm] if row.algorithm else ["ring", "tree", "in_network", "direct"]
    features = {}
    for each in place.algorithms(row.operation):
        # Where links of their own join all ranks, libraries also sum by direct exchange.
        if each.name in names and (each.in_libraries or place.shape.direct_links):
            phases = place.routed(row.operation, each.name)
            latency = sum(one.phase.repeats * one.latency for one in phases)
            carried = sum(one.pace for one in phases) * row.size
            own = 0.0 if row.operation == "send" else row.size / row.gpus
            features[each.name] = (1.0, latency, carried, own)
    weight = 2.0 if row.size >= LARGE else 1.0
    return Line(row.operation, row.gpus, row.nodes, log(row.seconds), weight, features)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=MEASURED)
    parser.add_argument("--rows", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--fit", nargs="+", default=[])
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    rows = read_rows(arguments.measured)
    for name in arguments.fit:
        block = fit(name, rows)
        print(f"# {name}\n{block}")
        if arguments.save:
            path = ROOT / "topologies" / f"{name}.yaml"
            path.write_text(path.read_text().partition("  protocols:\n")[0] + block)
    if arguments.fit:
        return
    if arguments.rows:
        print_rows(rows)
    table = summarise(rows)
    misses = describe_misses([compare(row) for row in rows])
    print("\n".join([*table, "", *misses]))
    if arguments.write:
        page = ROOT / "docs" / "collectives.md"
        write_section(page, "accuracy", "\n".join(table))
        write_section(page, "misses", "\n".join(misses))


if __name__ == "__main__":
    main()
