"""Emulated devices: computations take the predicted time, messages are real, and so pipelines outgrow the cores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from executor.emulated import Emulated
from executor.transport import Transport
from simulator.errors import ExecutionError
from simulator.launch import Launch, run
from simulator.load import load
from simulator.planning.validate import Validation, validate
from simulator.reports.validation import render

SHORT = "model.sequence_length=64"
"""A forward of a block then takes 5 ms."""

GOAL = 0.03
"""By how much a bubble may differ from the predicted one, of the step: what docs/schedules.md is held to.

Devices are timers, so that a busy machine delays single steps; their median stays within 2 points on two cores on
which three times as many processes want to run.
"""

STEPS = {"rounds": 1, "steps": 5, "warmup": 1}


def launch(out: Path, ranks: int, plans: Sequence[str], **options: object) -> Launch:
    settings = [f"topology.node.count={ranks}", f"model.num_hidden_layers={2 * ranks}", SHORT]
    return Launch(models=["gpt-tiny"], topology="emulated", plans=plans, settings=settings, out=out, **options)


def pipelines(folder: Path, ranks: int, schedules: Sequence[str]) -> list[str]:
    """Write a plan for each schedule, with as many micro-batches as ranks twice over."""
    paths = []
    for schedule in schedules:
        path = folder / f"{schedule}.yaml"
        plan = {"name": schedule, "schedule": schedule, "pp": ranks, "microbatch_size": 4}
        path.write_text(json.dumps(plan | {"num_microbatches": 2 * ranks}))
        paths.append(str(path))
    return paths


def check(results: Sequence[Validation]) -> None:
    """Spans come in the predicted order and no sooner than predicted; medians over the steps are idle as predicted."""
    for result in results:
        comparison = result.comparison
        step, bubble = comparison.step_time, comparison.bubble_fraction
        assert comparison.same_order, result.name
        assert step.measured > 0.97 * step.predicted, result.name
        assert bubble.measured == pytest.approx(bubble.predicted, abs=GOAL), result.name


def test_computations_take_the_predicted_time_and_train_nothing() -> None:
    inputs = load("gpt-tiny", "emulated", "single", ["topology.node.count=1", SHORT, "plan.num_microbatches=1"])
    emulated = Emulated(inputs, 0, Transport(inputs.program), torch.device("cpu"))
    spans, loss = emulated.step()
    assert loss is None
    assert [span.instruction for span in spans] == list(inputs.program.instructions(0))
    for span in spans:
        assert span.end is not None
        assert span.end - span.issued >= emulated.cost.seconds(span.instruction) > 0


@pytest.mark.distributed
def test_four_ranks_run_schedules_as_predicted(tmp_path: Path) -> None:
    """The last plan has no pipeline, but collectives; how long they take says gloo, not the topology."""
    plans = [*pipelines(tmp_path, 4, ("1f1b", "interleaved_1f1b", "zb_h2", "chimera")), "dp2-tp2"]
    results = validate(launch(tmp_path, 4, plans, **STEPS))
    check(results[:-1])
    assert [result.comparison.same_order for result in results] == [True] * len(plans)
    _, remarks = render(results, tmp_path)
    assert "its devices are emulated" in str(remarks)
    assert not list(tmp_path.glob("*/calibration-*"))


@pytest.mark.slow
@pytest.mark.distributed
def test_eight_ranks_run_schedules_as_predicted(tmp_path: Path) -> None:
    schedules = ("gpipe", "1f1b", "interleaved_1f1b", "zb_h1", "zb_h2", "interleaved_zero_bubble", "zbv", "hanayo")
    check(validate(launch(tmp_path, 8, pipelines(tmp_path, 8, schedules), **STEPS)))


def test_there_is_nothing_to_calibrate(tmp_path: Path) -> None:
    with pytest.raises(ExecutionError, match=r"emulated devices: .* nothing to calibrate"):
        run(launch(tmp_path, 2, ["pp2"], calibrate=True))
    assert not list(tmp_path.iterdir())
