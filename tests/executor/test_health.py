"""Replicas that differ and losses that are no numbers are found, and the rank is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from executor.health import Vitals, checksum, diagnose
from tests.executor.faults import ended, start


def replicas(*sums: int) -> list[Vitals]:
    return [Vitals(loss=1.0, sums={tuple(range(len(sums))): each}) for each in sums]


def test_replicas_that_agree_are_well() -> None:
    assert diagnose(replicas(7, 7, 7)) is None


def test_the_one_that_differs_is_named() -> None:
    assert diagnose(replicas(7, 7, 8)) == (2, "its parameters differ from those of rank 0, 1, its replicas")
    assert diagnose(replicas(8, 7, 7)) == (0, "its parameters differ from those of rank 1, 2, its replicas")


def test_of_two_nobody_knows_which_is_right() -> None:
    assert diagnose(replicas(7, 8)) == (0, "its parameters differ from those of rank 1, its replicas")


def test_ranks_of_other_stages_need_not_agree() -> None:
    assert diagnose([Vitals(loss=None, sums={(0,): 1}), Vitals(loss=2.0, sums={(1,): 2})]) is None


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_must_be_a_number(loss: float) -> None:
    vitals = [Vitals(loss=None, sums={}), Vitals(loss=loss, sums={})]
    found = diagnose(vitals)
    assert found and found[0] == 1 and f"its loss is {loss}" in found[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checksum_sees_the_last_bit(dtype: torch.dtype) -> None:
    one = torch.linspace(-1, 1, 1000).to(dtype)
    other = one.clone()
    other.view(torch.int16)[-1] += 1
    assert checksum([one]) == checksum([one.clone()]) != checksum([other])


FLIP = """
import os
if os.environ.get("RANK") == "1":
    import executor.optimizer as optimizer
    import torch
    calls, plain = [], optimizer.Update.step
    def step(self):
        plain(self)
        calls.append(None)
        if len(calls) == 20:
            with torch.no_grad():
                self.parameters[0].view(-1)[0] *= 1.001
    optimizer.Update.step = step
"""


@pytest.mark.distributed
def test_a_replica_that_drifts_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(FLIP)
    process = start(tmp_path / "out", "dp2", PYTHONPATH=str(tmp_path))
    told = ended(tmp_path / "out", process)
    assert process.returncode == 1
    assert "rank 0: after step " in told and "its parameters differ from those of rank 1, its replicas" in told
    assert "lost" not in told


@pytest.mark.distributed
def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    process = start(tmp_path, "dp2", further=["plan.optimizer={kind: sgd, learning_rate: 1e30}"])
    told = ended(tmp_path, process)
    assert process.returncode == 1
    assert "its loss is nan" in told or "its loss is inf" in told
