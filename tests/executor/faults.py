"""Runs that are hurt: how the fault tests start them, find their processes, and judge how they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from simulator.results.recording import Recording

LIMIT = 240
"""Seconds within which everything must be over, on a machine that is busy with other things."""

SIZES = ("model.num_hidden_layers=2", "model.hidden_size=64", "model.sequence_length=32")
ROOT = Path(__file__).parents[2]


def start(
    out: Path,
    plan: str,
    timeout: int = 10,
    verb: str = "run",
    steps: int = 5000,
    further: Sequence[str] = (),
    options: Sequence[str] = (),
    **environment: str,
) -> subprocess.Popen[str]:
    """Start a run that would take minutes."""
    words = [*arguments(out, plan, timeout, verb, steps, further), *options]
    call = f"from simulator.cli import main; main({words!r})"
    paths = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), str(ROOT)]))
    return subprocess.Popen(
        [sys.executable, "-c", call],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths} | environment,
    )


def arguments(out: Path, plan: str, timeout: int, verb: str, steps: int, further: Sequence[str] = ()) -> list[str]:
    inputs = ["--model", "gpt-tiny", "--topology", "local-cpu", "--plan", plan]
    sizes = [word for size in (*SIZES, *further) for word in ("--set", size)]
    return [verb, *inputs, "--steps", str(steps), "--timeout", str(timeout), "-o", str(out), *sizes]


def processes(out: Path) -> dict[int, int]:
    """Return process id -> rank of the executors that write to a folder, -1 for their launcher."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"executor" in command and str(out).encode() in command:
                found[int(entry.name)] = next((int(word[5:]) for word in environment if word[:5] == b"RANK="), -1)
    return found


def ranks(out: Path) -> dict[int, int]:
    """Return rank -> process id."""
    return {rank: process for process, rank in processes(out).items() if rank >= 0}


def wait_for(out: Path, process: subprocess.Popen[str], pattern: str, count: int) -> None:
    """Return when a job's folder holds so many files of a pattern."""
    end = time.monotonic() + LIMIT
    while len(list(out.glob(f"*/{pattern}"))) < count:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < end
        time.sleep(0.001)


def wait_for_ranks(out: Path, process: subprocess.Popen[str], count: int) -> dict[int, int]:
    end = time.monotonic() + LIMIT
    while len(found := ranks(out)) < count:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def ended(out: Path, process: subprocess.Popen[str]) -> str:
    """Return what a run has told when it ended by itself, and assert that it left nothing but whole files."""
    try:
        _, told = process.communicate(timeout=LIMIT)
        left = processes(out)
    finally:
        for each in processes(out):
            os.kill(each, signal.SIGKILL)
        process.kill()
        process.wait()
    assert not left, f"processes are left: {left}\n{told}"
    assert not list(out.glob("*/.*")), "a file is half written"
    assert "Traceback" not in told, told
    for path in out.glob("*/measured.json.gz"):
        assert Recording.load(path).steps
    return told
