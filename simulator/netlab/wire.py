"""What messages between two hosts of a lab take, measured before any plan runs."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from simulator.errors import ExecutionError
from simulator.netlab.lab import Lab
from simulator.netlab.spawn import command
from simulator.results.recording import read_json
from simulator.topology import Topology

FRAME, PAYLOAD = 1514, 1448
"""Bytes of a full Ethernet frame as tbf counts them, 14 of its header and 1,500 of packet; of these, what is left when
IPv4 (20), TCP (20) and its time stamps (12 with padding, RFC 7323) are taken off."""

GOODPUT = PAYLOAD / FRAME
"""Part of a shaped link's rate that payload gets. Acknowledgements travel the other way and are left out: one of 66
bytes for every two frames takes 2 % of a link only where both directions are full."""

PROBE_LIMIT = 180.0
"""Seconds within which messages are measured; most of it is torch's start on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What messages between two hosts of a lab were measured to take.

    Parameters
    ----------
    latency
        Seconds of a message that is sent at once.
    rate
        Bytes/s by which longer messages take longer.
    expected
        Bytes/s of payload that the slowest link between the two should carry.
    """

    latency: float
    rate: float
    expected: float

    def to_json(self) -> dict[str, float]:
        """Return plain values."""
        return {
            "message_latency_s": self.latency,
            "message_bytes_per_s": self.rate,
            "expected_bytes_per_s": self.expected,
        }


def measure(lab: Lab, topology: Topology) -> Wire:
    """Send messages between the first and the last rank of a lab; no plan is run.

    Raises
    ------
    ExecutionError
        They did not arrive, or torch is missing.
    """
    first, last = 0, topology.world_size - 1
    with tempfile.TemporaryDirectory(prefix="plancast-") as folder:
        path = Path(folder) / "messages.json"
        words = ["-m", "executor.probe", str(path)]
        try:
            done = subprocess.run(
                command(lab.name, (first, last), words),
                capture_output=True,
                text=True,
                timeout=PROBE_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ExecutionError(f"messages in lab {lab.name} did not arrive within {PROBE_LIMIT:.0f} s") from None
        if done.returncode or not path.exists():
            last_lines = "\n".join(done.stderr.splitlines()[-5:])
            raise ExecutionError(f"messages in lab {lab.name} could not be measured\n{last_lines}")
        messages: dict[float, list[float]] = {}
        for size, seconds in read_json(path)["messages"]:
            messages.setdefault(size, []).append(seconds)
    times = {size: fmean(seconds) for size, seconds in sorted(messages.items())}
    smallest, middle, largest = times
    bottleneck = topology.bottleneck(topology.route(first, last))
    return Wire(
        # It fits into the burst that a link lets pass after a pause, so that its bytes take no time of their own.
        latency=times[smallest],
        rate=(largest - middle) / (times[largest] - times[middle]),
        expected=bottleneck * GOODPUT,
    )
