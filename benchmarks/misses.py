"""What the rows have in common that a prediction misses most."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

from simulator.units import format_bytes, parse_bytes

WORST = 20
STRIKING = 2.0
"""Times as often among the misses as among all rows."""

EDGES = ("64 KiB", "1 MiB", "16 MiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A published figure beside its prediction: seconds for ``size`` bytes, and what was predicted to be used."""

    hardware: str
    operation: str
    nodes: int
    gpus: int
    size: float
    role: str
    measured: float
    predicted: float
    how: str

    @property
    def miss(self) -> float:
        """|log(predicted / measured)|, so that half and twice are equally wrong."""
        return abs(log(self.predicted / self.measured))


TRAITS: dict[str, Callable[[Compared], str]] = {
    "hardware": lambda row: row.hardware,
    "operation": lambda row: row.operation,
    "size": lambda row: _size_class(row.size),
    "group": lambda row: f"{row.nodes} x {row.gpus // row.nodes} GPUs",
    "predicted with": lambda row: row.how,
    "direction": lambda row: "predicted too slow" if row.predicted > row.measured else "predicted too fast",
}


def describe_misses(rows: Sequence[Compared]) -> list[str]:
    """Return two Markdown tables: the worst rows, and what is more frequent among them than among all."""
    worst = sorted(rows, key=lambda row: -row.miss)[:WORST]
    table = ["| hardware | group | operation | sizes | rows | error |", "|---|---|---|---|---|---|"]
    alike: dict[tuple[str, str, str, str], list[Compared]] = defaultdict(list)
    for row in worst:
        alike[row.hardware, TRAITS["group"](row), row.operation, row.role].append(row)
    for (*names, role), some in alike.items():
        sizes = _range([format_bytes(size) for size in sorted(row.size for row in some)])
        errors = _range([f"{error:+.0%}" for error in sorted(row.predicted / row.measured - 1 for row in some)])
        table.append(f"| {' | '.join(names)} | {sizes} | {len(some)} {role} | {errors} |")
    table += ["", f"| what | of the worst {WORST} | of all {len(rows)} |", "|---|---|---|"]
    for name, trait in TRAITS.items():
        many, few = Counter(map(trait, rows)), Counter(map(trait, worst))
        for value, count in few.most_common():
            among, overall = count / len(worst), many[value] / len(rows)
            if count > 1 and among >= STRIKING * overall:
                table.append(f"| {name}: {value} | {among:.0%} | {overall:.1%} |")
    return table


def _range(ordered: Sequence[str]) -> str:
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def _size_class(size: float) -> str:
    below = [edge for edge in EDGES if size < parse_bytes(edge)]
    return f"below {below[0]}" if below else f"{EDGES[-1]} and more"
