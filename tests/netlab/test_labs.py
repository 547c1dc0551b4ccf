"""Labs on this machine: up and down, a run inside, and nothing left after a crash. Root and iproute2 are needed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.load import load_topology
from simulator.netlab.build import down, require, up
from simulator.netlab.lab import existing, find
from simulator.results.recording import Recording

LIMIT = 240
"""Seconds within which a command is over, or a run has begun."""


def what_is_missing() -> str:
    """Return why this machine cannot build labs; empty when it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "labs need Linux and root"
    if not shutil.which("ip") or not shutil.which("tc"):
        return "labs need iproute2: apt-get install iproute2"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return f"labs need namespaces: {tried.stderr.strip()}" if tried.returncode else ""


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A lab's name that nobody else has; whatever is left of it goes."""
    if missing := what_is_missing():
        if os.environ.get("PLANCAST_REQUIRE_NETLAB"):
            pytest.fail(missing)
        pytest.skip(missing)
    mine = f"test-{os.getpid()}"
    monkeypatch.setenv("PLANCAST_LAB", mine)
    yield mine
    if left := find(mine):
        down(left)


PLANCAST = [sys.executable, "-c", "from simulator.cli import main; main()"]


def answer(*words: str) -> tuple[int, str]:
    done = subprocess.run([*PLANCAST, *words], capture_output=True, text=True, timeout=LIMIT, check=False)
    return done.returncode, done.stdout + done.stderr


def left_of(name: str) -> list[str]:
    """Return namespaces and processes of a lab."""
    commands = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if name.encode() in words:
            commands.append(b" ".join(words).decode())
    return [*(each for each in existing() if name in each), *commands]


def small_run(out: Path, steps: int, topology: str) -> list[str]:
    plan = out / "plan.yaml"
    plan.write_text(json.dumps({"name": "small", "dp": 4, "microbatch_size": 4, "num_microbatches": 1}))
    sizes = {"num_hidden_layers": 1, "hidden_size": 64, "vocab_size": 64, "sequence_length": 64}
    settings = [word for key, value in sizes.items() for word in ("--set", f"model.{key}={value}")]
    run = ["--model", "gpt-tiny", "--topology", topology, "--plan", str(plan), "--steps", str(steps), *settings]
    return [*run, "-o", str(out / "run")]


def test_up_twice_is_an_error_and_down_leaves_nothing(name: str) -> None:
    assert answer("netlab", "up", "netlab-ring")[0] == 0
    code, told = answer("netlab", "up", "netlab-star")
    assert code == 2
    assert f"lab {name}: is up already, as netlab-ring; plancast netlab down" in told
    code, told = answer("netlab", "show", "--format", "json")
    shown = json.loads(told)
    assert len(shown["hosts"]) == 8 and len(shown["links"]) == 16 and shown["processes"] == []
    assert answer("netlab", "down") == (0, f"lab {name} is down\n")
    assert not left_of(name)
    assert answer("netlab", "down") == (0, f"lab {name} is not up\n")


def test_a_link_has_its_rate_and_hosts_reach_each_other(name: str) -> None:
    """Bytes cross two switches: what is sent for a time of more than a buffer is no faster than the slower link."""
    lab = up(load_topology("netlab-oversubscribed"))
    size = 1_500_000
    server = "import socket\ns = socket.create_server(('', 5000)); print('ready', flush=True); c, _ = s.accept()\n"
    server += f"n = 0\nwhile n < {size}: n += len(c.recv(65536))\nc.sendall(b'.')"
    client = f"import socket, time\nc = socket.create_connection(('{lab.blueprint.spaces[2].address}', 5000))\n"
    client += f"t = time.monotonic(); c.sendall(bytes({size})); c.recv(1); print(time.monotonic() - t)"
    inside = ["ip", "netns", "exec"]
    with subprocess.Popen([*inside, lab.namespace(2), sys.executable, "-c", server], stdout=subprocess.PIPE) as waits:
        assert waits.stdout
        waits.stdout.readline()
        told = subprocess.check_output([*inside, lab.namespace(0), sys.executable, "-c", client], text=True, timeout=30)
    # 40 Mb/s between the switches are 5 MB/s of frames.
    assert float(told) > 0.9 * size / 5e6
    down(lab)
    assert not left_of(name)


def test_a_run_takes_the_lab_of_its_topology_alone(name: str) -> None:
    code, told = answer("netlab", "up", "netlab-star")
    assert code == 0
    assert require(load_topology("netlab-star")).name == name
    code, told = answer("run", "--netlab", "--model", "gpt-tiny", "--topology", "netlab-uneven", "--plan", "dp4")
    assert code == 2
    assert "is up as netlab-star, whose network is not that of netlab-uneven" in told


@pytest.mark.distributed
def test_validate_builds_runs_and_removes(name: str, tmp_path: Path) -> None:
    code, told = answer("validate", "--netlab", "--rounds", "1", *small_run(tmp_path, 2, "netlab-star"))
    assert code == 0, told
    measured = Recording.load(next(tmp_path.glob("run/*/measured.json.gz")))
    predicted = Recording.load(next(tmp_path.glob("run/*/predicted.json.gz")))
    # Gradients cross links that are far slower than anything else in this step, so it takes at least their time.
    least = predicted.steps[0].step_time
    assert all(step.step_time > 0.8 * least for step in measured.steps)
    assert not left_of(name)


@pytest.mark.slow
@pytest.mark.distributed
def test_down_removes_what_a_killed_command_left(name: str, tmp_path: Path) -> None:
    words = ["validate", "--netlab", *small_run(tmp_path, 100_000, "netlab-star")]
    with subprocess.Popen([*PLANCAST, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + LIMIT
            while not list(tmp_path.glob("run/*/partial-rank*")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        finally:
            process.send_signal(signal.SIGKILL)
    assert left_of(name)
    assert answer("netlab", "down")[0] == 0
    assert not left_of(name)
    assert find(name) is None
