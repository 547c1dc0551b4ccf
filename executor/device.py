"""The device of a rank, and the machine that it is on."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import torch

from executor.memory import keep_freed_memory
from simulator.errors import ExecutionError


def device_of(backend: str) -> torch.device:
    """Choose the device of this rank: GPU by local rank, or one CPU thread (ranks share the cores among them)."""
    if backend == "cuda":
        if not torch.cuda.is_available():
            raise ExecutionError("the topology's devices are CUDA devices, and torch finds none here; use local-cpu")
        local, found = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= found:
            raise ExecutionError(
                f"the topology puts rank {local} of this node on a GPU of its own, and there are {found}; "
                f"use --set topology.node.count={found}"
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.set_num_threads(1)
    keep_freed_memory()
    return torch.device("cpu")


def about(device: torch.device, kind: str, world_size: int) -> dict[str, str]:
    """Return what a recording says of where and with what it was made."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "kind": kind,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "world_size": str(world_size),
    }


def _processor() -> str:
    """Return the CPU's name as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "CPU"
