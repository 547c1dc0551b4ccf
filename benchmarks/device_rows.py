"""Published rates of single kernels as kernels with seconds: rows of gemm.csv, and the bandwidths of memory_bw.csv."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from simulator.model.layers.base import Kernel, fused_attention
from simulator.plan.plan import NARROW
from simulator.units import parse_bandwidth

CALIBRATION, TEST = "calibration", "test"

ENGINE = "ai-dynamo"
"""The source that ran kernels as an inference engine does: in short bursts, its own attention, fp8 with the cast."""

ACCUMULATED = 8
"""Bytes for each element of a weight gradient that is added to one in fp32: read and written."""

FORWARD, BACKWARD = "forward", "backward"
DIRECTIONS = {"fwd": (FORWARD,), "bwd": (BACKWARD,), "fwd+bwd": (FORWARD, BACKWARD)}

DTYPES = {"bfloat16": "bf16", "nvfp4": "fp4", "fp16 in / fp32 accumulate": "fp16"}
ITEMSIZE = {"fp32": 4, **NARROW}

STREAM = "HBM stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement: some kernels, one after the other, and the seconds of all.

    ``cast`` says that an fp8 or fp4 product's time holds the cast of its operand; ``family`` is product or attention.
    """

    hardware: str
    op: str
    family: str
    dtype: str
    source: str
    role: str
    kernels: tuple[Kernel, ...]
    cast: bool
    seconds: float

    @property
    def flops(self) -> float:
        """Of all its kernels."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def itemsize(self) -> int:
        """Bytes of an element in memory; fp8 and fp4 have results and all else in two."""
        return {"fp32": 4}.get(self.dtype, 2)


def read_rows(path: Path) -> tuple[list[Row], dict[str, int]]:
    """Return the rows that say what was run, and how many were left out for which reason."""
    rows, left_out = [], dict[str, int]()
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            reason = _unclear(line)
            if reason:
                left_out[reason] = left_out.get(reason, 0) + 1
            else:
                rows.append(_row(line))
    return rows, left_out


def _unclear(line: dict[str, str]) -> str:
    if line["op"].startswith("attention") and "causal" not in line["op"]:
        return "attention whose mask is not stated, or that is not fused"
    return ""


def _row(line: dict[str, str]) -> Row:
    dtype = line["dtype"].partition("->")[0]
    attention = line["op"].startswith("attention")
    kernels = _attention(line) if attention else (_product(line),)
    dtype = DTYPES.get(dtype, dtype)
    rate = float(line["tflops"]) * 1e12
    size = 2.0 * float(line["batch"]) * float(line["m"]) * float(line["n"]) * float(line["k"])
    return Row(
        hardware=line["hardware"],
        op=line["op"],
        family="attention" if attention else "product",
        dtype=dtype,
        source=line["source_ref"].partition("/")[0],
        role=line["role"],
        kernels=kernels,
        cast=line["source_ref"].startswith(ENGINE),
        seconds=float(line["time_us"]) * 1e-6 if line["time_us"] else size / rate,
    )


def _product(line: dict[str, str]) -> Kernel:
    m, n, k, batch = (int(line[key]) for key in ("m", "n", "k", "batch"))
    if line["op"] == "grouped_gemm_bwd_grad_w":
        m, k = k, m  # m is the tokens of a group, over which a weight gradient sums.
    itemsize = ITEMSIZE.get(line["dtype"], 2)
    weight_gradient = line["op"].endswith("grad_w") or (line["op"].endswith("accum") and "fp32" in line["dtype"])
    result = ACCUMULATED / itemsize if weight_gradient else 1
    elements = float(batch * (m * k + k * n + m * n * result))
    return Kernel("matmul", 2.0 * batch * m * n * k, elements, m, n, k, batch)


def _attention(line: dict[str, str]) -> tuple[Kernel, ...]:
    queries, keys, size, groups = (int(line[key]) for key in ("m", "n", "k", "batch"))
    stated = re.search(r"v dim (\d+)", line["notes"])
    values = int(stated[1]) if stated else size
    return tuple(
        fused_attention(
            batch=groups,
            queries=queries,
            keys=keys,
            size=size,
            value_size=values,
            shared=1,
            causal=True,
            backward=direction == BACKWARD,
        )
        for direction in DIRECTIONS[line["op"].rpartition("_")[2]]
    )


def stream_rates(path: Path) -> dict[str, float]:
    """Return for each hardware the median bytes/s of its streaming kernels (copy, scale, add, triad)."""
    found: dict[str, list[float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            named = line["metric"].startswith(STREAM) and not line["metric"].endswith("dot")
            if named and line.get("role", CALIBRATION) == CALIBRATION:
                found.setdefault(line["hardware"], []).append(parse_bandwidth(f"{line['value']} {line['unit']}"))
    return {hardware: median(rates) for hardware, rates in found.items()}


def of_role(rows: Iterable[Row], role: str) -> list[Row]:
    """Return the rows of one role."""
    return [row for row in rows if row.role == role]
