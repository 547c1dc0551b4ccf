"""``python -m executor.probe FILE``: what messages between the first and the last rank of a netlab take; runs no plan.

Each message is sent after a sleep, as the messages of emulated devices are: both processes must be woken up for it.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

from simulator.results.recording import write_json
from simulator.units import parse_bytes, parse_seconds

SIZES = tuple(parse_bytes(text) for text in ("4 kB", "250 kB", "1 MB"))
"""One that passes a shaped link in its burst, and two whose difference in time is the link's rate."""

REPEATS = 9
"""Messages of each size each way; the first is dropped, and medians are taken."""

SLEEP = parse_seconds("5 ms")
"""Before each message."""

TIMEOUT = timedelta(seconds=60)
"""After which a message that does not arrive ends the probe."""


def main() -> int:
    """Measure, and let rank 0 write (bytes, seconds) of the messages to either end."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=TIMEOUT)
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    points = [
        [size, median([_message(rank, source, last - source, int(size)) for _ in range(REPEATS)][1:])]
        for size in SIZES
        for source in (0, last)
        if rank in (0, last)
    ]
    arrived: list[list[list[float]] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(arrived, points)
    if rank == 0:
        # Only a receiver knows when a message was there.
        both = list(zip(arrived[0] or [], arrived[last] or [], strict=True))
        write_json(
            Path(sys.argv[1]), {"messages": [max(one, other, key=lambda point: point[1]) for one, other in both]}
        )
    dist.barrier()
    dist.destroy_process_group()
    return 0


def _message(rank: int, source: int, destination: int, size: int) -> float:
    """Send or receive a message; return its seconds to the receiver, which has the sender's clock, 0 to others."""
    buffer = torch.zeros(size // torch.float64.itemsize, dtype=torch.float64)
    dist.barrier()
    if rank == source:
        time.sleep(SLEEP)
        buffer[0] = time.perf_counter()
        dist.send(buffer, destination)
    elif rank == destination:
        dist.recv(buffer, source)
        return time.perf_counter() - float(buffer[0])
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
