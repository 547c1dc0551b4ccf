"""A lost rank never hangs the run: the others stop in time, name it, and leave what was measured, and no process."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulator.cli import main
from simulator.results.recording import Recording
from tests.executor.faults import ROOT, arguments, ended, ranks, start, wait_for, wait_for_ranks

pytestmark = pytest.mark.distributed

TRIES = [
    pytest.param(0, marks=pytest.mark.slow),
    *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(1, 10)),
]
"""Of each fault, at moments and on ranks drawn at random; the first of them in `make check-all`."""

WHOLE = "partial-rank*"


def readable(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that other verbs read what a run has left: its measured part beside a prediction."""
    (path,) = out.glob("*/measured.json.gz")
    recording = Recording.load(path)
    assert not recording.complete
    assert len(recording.steps) >= 10
    assert recording.steps[0].step_time > 0
    inputs = arguments(out / "predicted.json.gz", path.parent.name.removeprefix("gpt-tiny-"), 0, "simulate", 0)
    drop = {"--steps", "--timeout"}
    kept = [word for before, word in zip(["", *inputs], inputs, strict=False) if not drop & {before, word}]
    for call in (kept, ["compare", str(out / "predicted.json.gz"), str(path), "--format", "json"]):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            main(call)
        assert ending.value.code == 0
    assert json.loads(capsys.readouterr().out)["step_time_s"]["measured"] > 0


@pytest.mark.parametrize(
    ("plan", "blow"),
    [("tp2", signal.SIGKILL), ("pp2", signal.SIGKILL), pytest.param("dp2", signal.SIGSTOP, marks=pytest.mark.slow)],
)
def test_lost_rank_is_named_and_the_rest_kept(
    tmp_path: Path, plan: str, blow: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    # Between instructions replicas are compared; whoever is hit there is told in other words.
    process = start(tmp_path, plan, options=["--check-every", "0"])
    wait_for(tmp_path, process, WHOLE, 2)
    os.kill(ranks(tmp_path)[1], blow)
    told = ended(tmp_path, process)
    assert process.returncode == 1
    assert "lost: rank 1" in told
    line = next(line for line in told.splitlines() if line.startswith("rank 0: "))
    assert " in 0" in line and "with rank 1" in line, line
    readable(tmp_path, capsys)


@pytest.mark.parametrize("blow", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_an_interrupt_leaves_no_process(tmp_path: Path, blow: signal.Signals) -> None:
    process = start(tmp_path, "dp2")
    wait_for(tmp_path, process, WHOLE, 2)
    process.send_signal(blow)
    told = ended(tmp_path, process)
    assert process.returncode == 130
    assert "what was measured by then lies in" in told
    assert list(tmp_path.glob("*/measured.json.gz"))


LAYER = """
import os
if os.environ.get("RANK") == "{rank}":
    import executor.modules.functions as functions
    calls, plain = [], functions.FORWARD["linear"]
    def linear(*arguments, **more):
        calls.append(None)
        if len(calls) == {call}:
            raise ValueError("the layer is broken")
        return plain(*arguments, **more)
    functions.FORWARD["linear"] = linear
"""


SLOW_UNLINK = """
import os, pathlib, time
if os.environ.get("RANK") == "1":
    plain = pathlib.Path.unlink
    def unlink(path, missing_ok=False):
        time.sleep(2)
        plain(path, missing_ok)
    pathlib.Path.unlink = unlink
"""


def customized(folder: Path, code: str) -> str:
    """Return a folder for the Python path whose code runs before anything else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return str(folder)


def break_a_layer(folder: Path, rank: int, call: int) -> str:
    """Return a folder for the Python path in which one rank's linear layers fail at some call."""
    return customized(folder, LAYER.format(rank=rank, call=call))


def test_an_exception_in_a_layer_is_told_with_its_place(tmp_path: Path) -> None:
    process = start(tmp_path / "out", "pp2", PYTHONPATH=break_a_layer(tmp_path / "path", 1, 400))
    told = ended(tmp_path / "out", process)
    assert process.returncode == 1
    assert "rank 1: in 1F" in told and "ValueError: the layer is broken" in told
    assert "lost:" not in next(line for line in told.splitlines() if line.startswith("rank "))


def test_a_full_disk_is_told_and_what_was_written_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The operating system refuses to let one rank's files grow."""
    process = start(tmp_path, "dp2")
    wait_for(tmp_path, process, WHOLE, 2)
    size = max(path.stat().st_size for path in tmp_path.glob(f"*/{WHOLE}"))
    resource.prlimit(ranks(tmp_path)[1], resource.RLIMIT_FSIZE, (2 * size, 2 * size))
    told = ended(tmp_path, process)
    assert process.returncode == 1
    assert "rank 1: writing: OSError: [Errno 27]" in told
    readable(tmp_path, capsys)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "executor", "--model", "gpt-tiny", "--topology", "local-cpu", "--plan", "dp2"]
        more = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        done = subprocess.run(
            [*command, "--out", str(tmp_path)],
            env=os.environ | more | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rank 0: ")]
    assert "starting" in line and f"port: {port}" in line and "choose another MASTER_PORT" in line


def test_rank_0_keeps_its_store_until_all_are_done(tmp_path: Path) -> None:
    """Without torchrun, whose agent has the store, rank 0 takes it along when it ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "executor", "--model", "gpt-tiny", "--topology", "local-cpu", "--plan", "dp2"]
    command += ["--steps", "1", "--warmup", "0", "--timeout", "30", "--out", str(tmp_path / "out")]
    path = os.pathsep.join([customized(tmp_path / "path", SLOW_UNLINK), str(ROOT)])
    common = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": path}
    both = [
        subprocess.Popen(command, env=common | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told


def test_a_wrong_plan_starts_no_process(tmp_path: Path) -> None:
    process = start(tmp_path, "nonsense")
    told = ended(tmp_path, process)
    assert process.returncode == 2
    assert "nonsense" in told


def hit(out: Path, process: subprocess.Popen[str], moment: str, blow: signal.Signals, seed: int) -> int:
    """Send a signal to a rank drawn at random, at a moment of a kind; return the rank."""
    drawn = random.Random(seed)
    victim = drawn.randrange(2)
    if moment == "starting":
        wait_for_ranks(out, process, 2)
        time.sleep(drawn.uniform(0, 4))
    elif moment == "writing":
        wait_for(out, process, WHOLE, 2)
        wait_for(out, process, f".partial-rank{victim}*", 1)
    else:  # In a validation most of the time goes into calibration.
        wait_for(out, process, WHOLE, 2)
        time.sleep(drawn.uniform(0, 3))
    os.kill(ranks(out)[victim], blow)
    return victim


@pytest.mark.parametrize("seed", TRIES)
@pytest.mark.parametrize("moment", ["starting", "calibrating", "training", "writing"])
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_whoever_is_hit_whenever_is_named(tmp_path: Path, moment: str, blow: signal.Signals, seed: int) -> None:
    verb, steps = ("validate", 50) if moment == "calibrating" else ("run", 5000)
    process = start(tmp_path, ("tp2", "pp2", "dp2")[seed % 3], verb=verb, steps=steps)
    victim = hit(tmp_path, process, moment, blow, seed)
    told = ended(tmp_path, process)
    assert process.returncode == 1, told
    assert f"rank {victim}" in told.splitlines()[0] or f"lost: rank {victim}" in told, told
    assert f"lost: rank {1 - victim}" not in told, told
    assert list(tmp_path.glob("*/measured.json.gz")) or moment == "starting"


@pytest.mark.parametrize("seed", TRIES)
def test_an_exception_anywhere_is_told_first(tmp_path: Path, seed: int) -> None:
    drawn = random.Random(seed)
    rank, call = drawn.randrange(2), drawn.randrange(1, 2000)
    process = start(tmp_path / "out", "dp2", PYTHONPATH=break_a_layer(tmp_path / "path", rank, call))
    told = ended(tmp_path / "out", process)
    assert process.returncode == 1
    first = next(line for line in told.splitlines() if line.startswith("rank "))
    assert first.startswith(f"rank {rank}: in 0F") and "the layer is broken" in first, told


@pytest.mark.parametrize("seed", TRIES)
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_at_any_moment_leaves_no_process(tmp_path: Path, blow: signal.Signals, seed: int) -> None:
    process = start(tmp_path, "dp2")
    wait_for_ranks(tmp_path, process, 1 + seed % 2)
    time.sleep(random.Random(seed).uniform(0, 12))
    process.send_signal(blow)
    ended(tmp_path, process)
    assert process.returncode == 130


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small file system; the gate has a limit instead")
@pytest.mark.parametrize("seed", TRIES)
def test_a_full_file_system_keeps_what_was_measured(tmp_path: Path, seed: int) -> None:
    out = tmp_path / "small"
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={40 + 24 * seed}k", "tmpfs", str(out)], check=True)
    try:
        process = start(out, "dp2")
        told = ended(out, process)
        assert process.returncode == 1
        assert "No space left on device" in told
        (line,) = [line for line in told.splitlines() if line.startswith("what was measured by then lies in ")]
        folder = Path(line.removeprefix("what was measured by then lies in "))
        assert Recording.load(folder / "measured.json.gz").steps
    finally:
        subprocess.run(["umount", str(out)], check=True)
