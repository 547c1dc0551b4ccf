"""``python -m simulator.netlab.spawn LAB RANKS WORDS``: starts ``python WORDS`` for each rank inside its host.

What torchrun does on one machine: the environment that ``env://`` reads, an end for all when one fails.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from types import FrameType

from simulator.netlab.lab import Lab, find, namespace

PORT = "29500"
"""Of the store; whatever else runs on this machine, inside a lab it is free."""

POLL = 0.1
"""Seconds between two looks at the processes."""

GRACE = 30.0
"""Seconds that the others have for ending when one has failed, torchrun's."""


def main() -> int:
    """Run until all have ended; exit 1 when one failed."""
    name, ranks, *words = sys.argv[1:]
    lab = find(name)
    if lab is None:
        print(f"lab {name} is not up", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _stop)
    chosen = [int(rank) for rank in ranks.split(",")]
    processes = [start(lab, chosen, index, words) for index in range(len(chosen))]
    try:
        failed = _wait(processes)
    finally:
        _end(processes)
    if failed is not None and processes[failed].returncode < 0:
        by = signal.Signals(-processes[failed].returncode).name
        print(f"rank {failed}: on {lab.blueprint.host(chosen[failed]).name}: ended by {by}", file=sys.stderr)
    return 0 if failed is None else 1


def command(lab: str, ranks: Iterable[int], words: Sequence[str]) -> list[str]:
    """Return what starts ``python WORDS`` for ranks of a lab; itself in the first host, so it ends with the lab."""
    inside = ["ip", "netns", "exec", namespace(lab, "host0"), sys.executable, "-m", "simulator.netlab.spawn"]
    return [*inside, lab, ",".join(map(str, ranks)), *words]


def start(lab: Lab, ranks: Sequence[int], index: int, words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start one process in the host of a rank.

    Parameters
    ----------
    lab
        Where.
    ranks
        Ranks of the topology that take part; they are numbered anew from 0.
    index
        Which of them.
    words
        What comes after ``python``.
    """
    blueprint = lab.blueprint
    host = blueprint.host(ranks[index])
    on_host = [rank for rank in ranks if rank in host.ranks]
    environment = os.environ | {
        "RANK": str(index),
        "WORLD_SIZE": str(len(ranks)),
        "LOCAL_RANK": str(on_host.index(ranks[index])),
        "LOCAL_WORLD_SIZE": str(len(on_host)),
        "MASTER_ADDR": blueprint.host(ranks[0]).address,
        "MASTER_PORT": PORT,
        "GLOO_SOCKET_IFNAME": "eth0",
    }
    namespace = lab.namespace(blueprint.spaces.index(host))
    return subprocess.Popen(["ip", "netns", "exec", namespace, sys.executable, *words], env=environment)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Return which one fails first, None when all have ended well."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [index for index, code in enumerate(codes) if code]
        if failed:
            return failed[0]
        if all(code == 0 for code in codes):
            return None
        time.sleep(POLL)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
