"""A transformer layer put together by hand from kernels, beside its published times (Korthikanti et al. 2022, table 4).

Megatron of 2022 on a DGX A100: unfused attention, a fused softmax, bias and GELU in one kernel, bias, dropout and
residual in another, tensor parallel over one node. It shows what ``simulator/cost/kernels.py`` leaves out.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from simulator.cost.kernels import kernel_seconds
from simulator.model.layers.base import Kernel, matmul, memory
from simulator.topology import Device

HIDDEN, HEADS, SEQUENCE, SAMPLES, RANKS = 6144, 64, 2048, 4, 8
TOKENS = SEQUENCE * SAMPLES
MASK = 0.5
"""Elements for each of a dropout's mask bytes."""

ITEMSIZE = 2
MESSAGES = (2**26, 2**28)
"""Bytes of the all-reduces that count: TOKENS * HIDDEN * ITEMSIZE lies between."""

PAPER = "arXiv 2205.05198 Table 4"


def core(backward: bool) -> list[Kernel]:
    """Return unfused attention: scores, softmax, dropout, context."""
    heads = SAMPLES * HEADS // RANKS
    square, size = heads * SEQUENCE**2, HIDDEN // HEADS
    scores, context = matmul(SEQUENCE, SEQUENCE, size, heads), matmul(SEQUENCE, size, SEQUENCE, heads)
    if backward:
        return [scores, context, context, context, memory(3 * square), memory((2 + MASK) * square)]
    return [scores, context, memory(2 * square), memory((2 + MASK) * square)]


def dense(backward: bool) -> list[Kernel]:
    """Return the four products with weights; backward has two for each."""
    shapes = [
        (3 * HIDDEN // RANKS, HIDDEN),
        (HIDDEN, HIDDEN // RANKS),
        (4 * HIDDEN // RANKS, HIDDEN),
        (HIDDEN, 4 * HIDDEN // RANKS),
    ]
    if not backward:
        return [matmul(TOKENS, n, k) for n, k in shapes]
    return [kernel for n, k in shapes for kernel in (matmul(TOKENS, k, n), matmul(n, k, TOKENS))]


def elementwise(backward: bool, sequence_parallel: bool) -> list[Kernel]:
    """Return norms, dropouts with residuals, GELU and the copies that put heads side by side."""
    whole = TOKENS * HIDDEN / (RANKS if sequence_parallel else 1)
    gelu, heads = TOKENS * 4 * HIDDEN / RANKS, TOKENS * 3 * HIDDEN / RANKS
    if backward:
        return [memory(3 * whole)] * 2 + [memory((2 + MASK) * whole)] * 2 + [memory(3 * gelu), memory(2 * heads)]
    return [memory(2 * whole)] * 2 + [memory((3 + MASK) * whole)] * 2 + [memory(2 * gelu), memory(2 * heads)]


def layer_table(device: Device, measured: Path) -> list[str]:
    """Return a table of predicted and published milliseconds, forward and backward."""
    reduce = 2 * _all_reduce(measured / "collectives.csv")  # Two in each direction, or as much in other forms.
    lines = [
        "| layer | direction | products | attention | elementwise | messages | together | published | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    with (measured / "kernels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["source_ref"] == PAPER and row["role"] == "calibration"]
    for row in rows:
        for direction, backward in (("fwd", False), ("bwd", True)):
            parts = _parts(device, row, backward, reduce)
            total, published = sum(parts), float(row[f"{direction}_ms"]) * 1e-3
            cells = [f"{seconds * 1e3:.2f}" for seconds in (*parts, total, published)]
            name = row["layer_or_phase"].partition(": ")[2]
            lines.append(f"| {name} | {direction} | {' | '.join(cells)} | {total / published:.2f} |")
    return lines


def _parts(device: Device, row: dict[str, str], backward: bool, reduce: float) -> tuple[float, float, float, float]:
    """Return seconds of products, attention, elementwise kernels and messages, with what is computed again."""
    sharded = row["sp"] == "y"

    def seconds(kernels: Sequence[Kernel]) -> float:
        return sum(kernel_seconds(kernel, device, "bf16", ITEMSIZE) for kernel in kernels)

    parts = (seconds(dense(backward)), seconds(core(backward)), seconds(elementwise(backward, sharded)), reduce)
    if not backward or row["recompute"] == "none":
        return parts
    again = (0.0, seconds(core(False)), 0.0, 0.0)
    if row["recompute"] == "full":
        again = (seconds(dense(False)), seconds(core(False)), seconds(elementwise(False, sharded)), reduce)
    products, attention, small, messages = (own + more for own, more in zip(parts, again, strict=True))
    return products, attention, small, messages


def _all_reduce(path: Path) -> float:
    """Return the seconds in which a node of A100s sums a layer's output, at the median published bus bandwidth."""
    with path.open(newline="", encoding="utf-8") as file:
        rates = [
            float(row["busbw_GBps"]) * 1e9
            for row in csv.DictReader(file)
            if row["hardware"].startswith("A100-SXM4")
            and (row["op"], row["nodes"], row["gpus"], row["role"]) == ("all_reduce", "1", str(RANKS), "calibration")
            and MESSAGES[0] <= float(row["bytes"]) <= MESSAGES[1]
        ]
    return 2 * (RANKS - 1) / RANKS * TOKENS * HIDDEN * ITEMSIZE / median(rates)
