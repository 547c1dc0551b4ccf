"""What a row measured, in seconds and bytes."""

from __future__ import annotations

import re

from simulator.published.row import Row
from simulator.units import parse_bytes

GIGABYTES = re.compile(r"(?:memory|mem|peak|reserved|allocated)\D{0,40}\bgb\b|\bgb \(10", re.IGNORECASE)
"""Notes that say that memory is in 10^9 bytes; torch and nvidia-smi print 2^30, which is taken elsewhere."""


def step_seconds(row: Row) -> float | None:
    """Return the time of a step: as printed, or of the throughput and the batch."""
    printed, batch, length = row.number("step_time_s"), row.number("global_batch"), row.number("seq_len")
    if printed is not None or batch is None:
        return printed
    samples, tokens, gpus = row.number("samples_per_s"), row.number("tokens_per_s_per_gpu"), row.number("gpus")
    if samples:
        return batch / samples
    if tokens and gpus and length:
        return batch * length / (tokens * gpus)
    return None


def peak_bytes(row: Row) -> float | None:
    """Return the peak memory of a device."""
    value = row.number("peak_mem_GB")
    unit = "GB" if GIGABYTES.search(row.words("notes")) and "gib" not in row.words("notes") else "GiB"
    return None if value is None else value * parse_bytes(f"1 {unit}")
