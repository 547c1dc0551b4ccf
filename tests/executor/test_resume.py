"""A run that was interrupted and resumed has trained what an uninterrupted one has, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from simulator.results.recording import Recording
from tests.executor.faults import LIMIT, ROOT, ended, processes, ranks, wait_for

pytestmark = pytest.mark.distributed

SIZES = (
    "model.num_hidden_layers=2",
    "model.hidden_size=32",
    "model.num_attention_heads=4",
    "model.vocab_size=50",
    "model.sequence_length=16",
    "model.dropout=0.25",
)
PLANS = {
    "dp": ["plan.dp=2"],
    "tp": ["plan.tp=2"],
    "pp": ["plan.pp=2"],
    "fsdp": ["plan.dp=2", "plan.sharding=fsdp"],
    "zero1": ["plan.dp=2", "plan.sharding=zero1", "plan.overlap_param_gather=true"],
    "split": ["plan.pp=2", "plan.schedule=zb_h1"],
    "bf16": ["plan.dp=2", "plan.dtype=bf16"],
}


def start(out: Path, settings: list[str], *options: str, verb: str = "run") -> subprocess.Popen[str]:
    inputs = ["--model", "gpt-tiny", "--topology", "local-cpu", "--plan", "single", *options]
    inputs += [word for each in (*SIZES, "topology.node.count=2", *settings) for word in ("--set", each)]
    place = [] if "--resume" in options else ["-o", str(out)]
    call = f"from simulator.cli import main; main({[verb, *inputs, *place]!r})"
    return subprocess.Popen(
        [sys.executable, "-c", call],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def finish(process: subprocess.Popen[str]) -> str:
    _, told = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, told
    return told


def checkpoint(out: Path, step: int) -> list[dict]:
    """Return what the ranks have kept of a step."""
    paths = sorted(out.glob(f"*/checkpoint-{step}-rank*.pt"))
    assert len(paths) == 2
    return [torch.load(path, weights_only=True) for path in paths]


def flat(value: object) -> list[object]:
    """Return the leaves of plain containers."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in flat(value[key])]
    return [leaf for each in value for leaf in flat(each)] if isinstance(value, list | tuple) else [value]


def assert_same(one: object, other: object) -> None:
    for ours, theirs in zip(flat(one), flat(other), strict=True):
        if isinstance(ours, torch.Tensor):
            assert ours.dtype == theirs.dtype
            assert ours.reshape(-1).view(torch.uint8).equal(theirs.reshape(-1).view(torch.uint8))
        else:
            assert ours == theirs


@pytest.mark.parametrize(
    "plan", [name if name == "split" else pytest.param(name, marks=pytest.mark.slow) for name in PLANS]
)
def test_resumed_training_equals_uninterrupted_training(tmp_path: Path, plan: str) -> None:
    """Four steps and four more, beside eight: parameters, optimizer, and the loss of each recorded step."""
    every = ["--checkpoint-every", "3", "--warmup", "2"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finish(start(whole, PLANS[plan], *every, "--steps", "8"))
    finish(start(parts, PLANS[plan], *every, "--steps", "4"))
    kept = max(int(path.name.split("-")[1]) for path in parts.glob("*/checkpoint-*"))
    told = finish(start(parts, PLANS[plan], *every, "--steps", "8", "--resume", str(parts)))
    assert f"goes on after step {kept}" in told
    last = max(int(path.name.split("-")[1]) for path in whole.glob("*/checkpoint-*"))
    for one, other in zip(checkpoint(whole, last), checkpoint(parts, last), strict=True):
        assert_same(one["state"], other["state"])
        assert_same(one["random"], other["random"])
        assert one["record"]["losses"] == other["record"]["losses"]
    recordings = [Recording.load(next(out.glob("*/measured.json.gz"))) for out in (whole, parts)]
    assert [len(recording.steps) for recording in recordings] == [8, 8]
    assert recordings[0].about["losses"] == recordings[1].about["losses"]
    assert len(set(recordings[0].about["losses"])) > 1


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint_and_other_inputs_are_refused(tmp_path: Path) -> None:
    every = ["--checkpoint-every", "5", "--timeout", "10"]
    process = start(tmp_path, PLANS["dp"], *every, "--steps", "100000")
    wait_for(tmp_path, process, "checkpoint-*", 2)
    os.kill(ranks(tmp_path)[1], signal.SIGKILL)
    ended(tmp_path, process)
    resume = ["--resume", str(tmp_path)]
    for changes, said in (
        (["plan.dp=2", "plan.sharding=zero1"], "plan.sharding is zero1, and was None"),
        (["plan.dp=2", "model.hidden_size=64"], "model.hidden_size is 64, and was 32"),
    ):
        refused = start(tmp_path, changes, *every, "--steps", "1", *resume)
        told = ended(tmp_path, refused)
        assert refused.returncode == 1
        assert said in told, told
    told = finish(start(tmp_path, PLANS["dp"], *every, "--steps", "1", *resume))
    assert "goes on after step" in told
    assert not processes(tmp_path)


def test_a_run_told_to_stop_keeps_its_state(tmp_path: Path) -> None:
    """Slurm sends SIGTERM before it takes a job's nodes away."""
    process = start(tmp_path, PLANS["dp"], "--checkpoint-every", "1000000", "--steps", "100000")
    wait_for(tmp_path, process, "partial-rank*", 2)
    process.send_signal(signal.SIGTERM)
    told = ended(tmp_path, process)
    assert process.returncode == 130
    (step,) = {int(path.name.split("-")[1]) for path in tmp_path.glob("*/checkpoint-*")}
    assert f"its state after step {step} is kept" in told
    assert len(list(tmp_path.glob("*/checkpoint-*"))) == 2


def test_a_folder_without_a_run_is_not_resumed(tmp_path: Path) -> None:
    process = start(tmp_path, PLANS["dp"], "--resume", str(tmp_path))
    told = ended(tmp_path, process)
    assert process.returncode == 2
    assert "there is nothing of gpt-tiny-single in it" in told


@pytest.mark.slow
def test_a_validation_keeps_the_rounds_that_it_has_measured(tmp_path: Path) -> None:
    options = ["--rounds", "3", "--steps", "1", "--timeout", "10"]
    process = start(tmp_path, PLANS["dp"], *options, verb="validate")
    wait_for(tmp_path, process, "checkpoint-*", 2)
    os.kill(ranks(tmp_path)[0], signal.SIGKILL)
    ended(tmp_path, process)
    told = finish(start(tmp_path, PLANS["dp"], *options, "--resume", str(tmp_path), verb="validate"))
    assert "goes on after step" in told
    assert "round 1 of 3" not in told and "round 3 of 3" in told
    recording = Recording.load(next(tmp_path.glob("*/measured.json.gz")))
    assert recording.complete and recording.rounds == (0, 1, 2)
    assert len(list(tmp_path.glob("*/calibration-*.json"))) == 3
    assert not list(tmp_path.glob("*/checkpoint-*"))
