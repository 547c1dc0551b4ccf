"""A lost rank never hangs the run: the others stop in time, name it, and leave what was measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulator.results.recording import Recording

pytestmark = pytest.mark.distributed

LIMIT = 120
"""Seconds within which everything must be over; torchrun alone gives a stopped process 30 s to end."""


def start(out: Path, plan: str, timeout: int) -> subprocess.Popen[str]:
    """Start a run that would take minutes."""
    command = [Path(sys.executable).with_name("plancast"), "run", "--model", "gpt-tiny", "--topology", "local-cpu"]
    options = ["--plan", plan, "--steps", "5000", "--timeout", str(timeout), "-o", str(out)]
    sizes = ["--set", "model.num_hidden_layers=2", "--set", "model.hidden_size=64", "--set", "model.sequence_length=32"]
    return subprocess.Popen([*command, *options, *sizes], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rank_processes(out: Path) -> dict[int, int]:
    """Return rank -> process id of the executors that write to a folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            rank = next((word[5:] for word in environment if word.startswith(b"RANK=")), None)
            if rank is not None and b"executor" in command and str(out).encode() in command:
                found[int(rank)] = int(entry.name)
    return found


def wait_until_training(out: Path, process: subprocess.Popen[str]) -> None:
    """Return when both ranks have saved their first steps."""
    end = time.monotonic() + LIMIT
    while len(list(out.glob("*/partial-rank*"))) < 2:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize(("plan", "blow"), [("tp2", signal.SIGKILL), ("pp2", signal.SIGKILL), ("dp2", signal.SIGSTOP)])
def test_lost_rank_is_named_and_the_rest_kept(tmp_path: Path, plan: str, blow: signal.Signals) -> None:
    process = start(tmp_path, plan, timeout=10)
    try:
        wait_until_training(tmp_path, process)
        victims = rank_processes(tmp_path)
        os.kill(victims[1], blow)
        _, told = process.communicate(timeout=LIMIT)
    finally:
        for victim in rank_processes(tmp_path).values():
            os.kill(victim, signal.SIGKILL)
        process.kill()
    assert process.returncode == 1
    assert "lost: rank 1" in told
    line = next(line for line in told.splitlines() if line.startswith("rank 0: "))
    assert " in 0" in line and "with rank 1" in line, line
    recording = Recording.load(next(tmp_path.glob("*/measured.json.gz")))
    assert not recording.complete
    assert len(recording.steps) >= 10
    assert recording.steps[0].step_time > 0


def test_a_wrong_plan_starts_no_process(tmp_path: Path) -> None:
    process = start(tmp_path, "nonsense", timeout=10)
    _, told = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert "nonsense" in told and "Traceback" not in told
