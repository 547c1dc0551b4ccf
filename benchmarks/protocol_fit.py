"""Fits the protocols of a communication library: overhead, latency, efficiency and copy rate of each.

A call takes o + l L + C / e + (S / n) / c seconds in a protocol: L is the latency and C the time of the bytes on the
bare links, S / n a rank's own part. The library takes the fastest protocol that it has, so the prediction is the
minimum over them, and that is what is fitted: the mean of |log(predicted / measured)| goes down, one coefficient at a
time. Leaving where it began costs a coefficient a little, so that one that no measurement depends on stays there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill, indent

import numpy as np
from numpy.typing import NDArray

from simulator.units import parse_bandwidth, parse_seconds

MICROSECOND, GIGABYTE_PER_SECOND = parse_seconds("1 us"), parse_bandwidth("1 GB/s")

STARTS = {
    "LL": (4e-6, 0.4, 4.0, 1e-12),
    "LL128": (8e-6, 0.8, 1.8, 1e-12),
    "Simple": (20e-6, 1.5, 1.25, 1e-12),
}
"""NCCL's protocols, and where the fit begins: seconds, multiple, 1 / efficiency, seconds a byte."""

PROTOCOLS = {
    "ring": ("LL", "LL128", "Simple"),
    "tree": ("LL", "LL128", "Simple"),
    "direct": ("LL", "LL128", "Simple"),
    "in_network": ("LL128", "Simple"),
}
NVLS_RANKS = 8
"""NCCL's tuning prefers rings to in-switch sums in smaller groups: its model gives them (n - 1) / n of the speed."""

PULL = 2e-4
"""What a coefficient's distance |log(value / start)| counts beside the mean error."""

STEPS = (2.0, 1.4, 1.15, 1.05, 1.02, 1.005)
WIDTH = 110
SEED, RESTARTS = 0, 6


@dataclass(frozen=True, slots=True)
class Line:
    """A measurement: log seconds, its weight, and for each algorithm (1, L, C, S / n)."""

    operation: str
    num_ranks: int
    num_nodes: int
    log_seconds: float
    weight: float
    features: Mapping[str, tuple[float, float, float, float]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A protocol of an algorithm, for groups within a node or over several."""

    algorithm: str
    protocol: str
    scope: str

    @property
    def min_ranks(self) -> int:
        """Smallest group for which the library uses it."""
        return NVLS_RANKS if self.algorithm == "in_network" else 2

    def covers(self, line: Line) -> bool:
        """Whether the library would use it for a measurement."""
        scope = "node" if line.num_nodes == 1 else "cluster"
        return self.algorithm in line.features and scope == self.scope and line.num_ranks >= self.min_ranks


def fit_block(lines: Sequence[Line], source: str, by: str) -> str:
    """Return the YAML of the key `protocols` that fits the measurements best."""
    scopes = {("node" if line.num_nodes == 1 else "cluster", name) for line in lines for name in line.features}
    every = [Candidate(name, protocol, scope) for scope, name in sorted(scopes) for protocol in PROTOCOLS[name]]
    candidates = [each for each in every if any(each.covers(line) for line in lines)]
    nothing = (0.0, 0.0, 0.0, 0.0)
    features = np.array([[line.features.get(each.algorithm, nothing) for each in candidates] for line in lines])
    closed = np.array([[0.0 if each.covers(line) else np.inf for each in candidates] for line in lines])
    target = np.array([line.log_seconds for line in lines])
    weights = np.array([line.weight for line in lines])
    start = np.array([STARTS[each.protocol] for each in candidates])
    random = np.random.default_rng(SEED)
    starts = [start] + [start * np.exp(random.normal(0.0, 0.5, start.shape)) for _ in range(RESTARTS)]
    found = [_descend(features, closed, target, weights, each, start) for each in starts]
    _, best = min(found, key=lambda each: each[0])
    error = _loss(_seconds(features, best) + closed, target, weights)
    taken = np.bincount(np.argmin(_seconds(features, best) + closed, axis=1), minlength=len(candidates))
    summed = any(line.operation == "all_reduce" and "direct" in line.features for line in lines)
    text = "  protocols:\n"
    words = f"{source} (benchmarks/{by}); mean |log error| {error:.3f}."
    anchor = "&fit >-\n" + indent(fill(words, WIDTH), " " * 8)
    for candidate, values, count in zip(candidates, best, taken.tolist(), strict=True):
        # A protocol that is never the fastest is none.
        if count:
            text += _entry(candidate, values, anchor, summed)
            anchor = "*fit"
    return text


def _seconds(features: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sum(features * values, axis=2))


def _loss(seconds: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    error = np.abs(np.log(np.min(seconds, axis=1)) - target)
    return float(np.sum(error * weights) / np.sum(weights))


def _descend(
    features: NDArray[np.float64],
    closed: NDArray[np.float64],
    target: NDArray[np.float64],
    weights: NDArray[np.float64],
    start: NDArray[np.float64],
    origin: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    """Change one coefficient at a time by ever smaller factors while that helps more than leaving ``origin`` costs."""
    values = np.maximum(start, [0.0, 0.0, 1.0, 0.0])
    seconds = _seconds(features, values) + closed
    pulled = PULL * np.abs(np.log(values / origin))
    best = _loss(seconds, target, weights) + float(np.sum(pulled))
    for step in STEPS:
        improved = True
        while improved:
            before = best
            for i, j in np.ndindex(values.shape):
                for factor in (step, 1 / step):
                    changed = max(values[i, j] * factor, 1.0) if j == 2 else values[i, j] * factor
                    old = seconds[:, i].copy()
                    seconds[:, i] += features[:, i, j] * (changed - values[i, j])
                    before_pull, pulled[i, j] = pulled[i, j], PULL * abs(np.log(changed / origin[i, j]))
                    loss = _loss(seconds, target, weights) + float(np.sum(pulled))
                    if loss < best:
                        best, values[i, j] = loss, changed
                    else:
                        seconds[:, i], pulled[i, j] = old, before_pull
            improved = best < before * (1 - 1e-4)
    return best, values


def _entry(candidate: Candidate, values: NDArray[np.float64], source: str, summed: bool) -> str:
    """Return the YAML of a protocol; ``summed`` says that direct exchanges were also measured as sums."""
    overhead, latency, slowness, copy = values.tolist()
    fields = {
        "algorithm": candidate.algorithm,
        "name": candidate.protocol,
        "scope": candidate.scope,
        "min_ranks": str(candidate.min_ranks),
        "overhead": f"{overhead / MICROSECOND:.3g} us",
        "latency": f"{latency * 100:.3g}%",
        "efficiency": f"{100 / slowness:.3g}%",
        "copy": f"{1 / copy / GIGABYTE_PER_SECOND:.4g} GB/s",
        "source": source,
    }
    if candidate.algorithm == "direct" and not summed:
        # Between nodes all-to-alls alone were measured, where a card serves many peers at once; one message does not.
        fields["operations"] = "[all_to_all, send]" if candidate.scope == "node" else "[all_to_all]"
    lines = [f"{key}: {value}" for key, value in fields.items() if (key, value) != ("min_ranks", "2")]
    return "    - " + "\n      ".join(lines) + "\n"
