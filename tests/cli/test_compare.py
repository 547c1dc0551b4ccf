"""`plancast compare`: signed errors, paired by round, with folded ranks counted."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulator.load import load
from simulator.program.instructions import Instruction, Kind
from simulator.results.compare import compare, quantile
from simulator.results.recording import Recording
from simulator.results.timeline import Span, Timeline

Run = Callable[..., Any]


INPUTS = load("linear-regression", "local-cpu", "dp2", ["plan.num_microbatches=1"])
PROGRAM = INPUTS.program
"""Runs 0F0.0 0B0.0 0REDUCE_GRAD.0 0OPTIM on each of two ranks."""


def step(source: str, seconds: float, ranks: dict[int, tuple[int, ...]], backward_first: bool = False) -> Timeline:
    """Forward for the first half of the step, backward for the second; the rest takes no time."""
    names = ["0F0.0", "0B0.0", "0REDUCE_GRAD.0", "0OPTIM"]
    if backward_first:
        names[:2] = reversed(names[:2])
    ends = [seconds / 2, seconds, seconds, seconds]
    spans = tuple(
        Span(rank, Instruction.parse(name), start, start, end)
        for rank in ranks
        for name, start, end in zip(names, [0.0, *ends], ends, strict=False)
    )
    return Timeline(source=source, begin=0.0, end=seconds, spans=spans, ranks=ranks)


def recording(source: str, times: list[float], rounds: list[int], ranks: dict[int, tuple[int, ...]]) -> Recording:
    steps = tuple(step(source, seconds, ranks) for seconds in times)
    return Recording(source=source, inputs=INPUTS.resolved(), steps=steps, rounds=tuple(rounds))


FOLDED, WHOLE = {0: (0, 1)}, {0: (0,), 1: (1,)}


def test_error_is_the_median_of_the_rounds() -> None:
    predicted = recording("predicted", [1.0, 2.0, 3.0], [0, 1, 2], FOLDED)
    measured = recording("measured", [1.0, 1.25, 1.25, 9.0, 4.0], [0, 0, 0, 1, 2], WHOLE)
    found = compare(predicted, measured, PROGRAM)
    assert found.round_errors == pytest.approx({0: 1 / 1.25 - 1, 1: 2 / 9 - 1, 2: 3 / 4 - 1})
    assert found.error == pytest.approx(-0.25)
    assert found.spread == pytest.approx((1.1, 7.0))
    assert found.same_order
    assert found.same_inputs


def test_one_prediction_serves_all_rounds() -> None:
    found = compare(
        recording("predicted", [2.0], [0], FOLDED), recording("measured", [4.0, 1.0], [5, 6], WHOLE), PROGRAM
    )
    assert found.round_errors == pytest.approx({5: -0.5, 6: 1.0})


def test_a_folded_rank_counts_for_all_that_it_stands_for() -> None:
    found = compare(recording("predicted", [2.0], [0], FOLDED), recording("measured", [2.0], [0], WHOLE), PROGRAM)
    assert {kind: (pair.predicted, pair.measured) for kind, pair in found.kinds.items()} == {
        Kind.F: (2.0, 2.0),
        Kind.B: (2.0, 2.0),
        Kind.REDUCE_GRAD: (0.0, 0.0),
        Kind.OPTIM: (0.0, 0.0),
    }
    assert found.error == 0


def test_another_order_is_seen_in_any_step() -> None:
    predicted = recording("predicted", [2.0], [0], FOLDED)
    right, wrong = step("measured", 2.0, WHOLE), step("measured", 2.0, WHOLE, True)
    for steps in ((wrong,), (right, wrong)):
        found = compare(predicted, replace(predicted, steps=steps, rounds=(0,) * len(steps)), PROGRAM)
        assert not found.same_order
        assert "rank 0 began 0B0.0 2 s too early: 0F0.0 comes first" in found.disorder


def test_peaks_are_paired_by_rank() -> None:
    def holding(source: str, ranks: dict[int, tuple[int, ...]], peaks: dict[int, float]) -> Recording:
        memory = {rank: ((0.0, 0.0), (0.5, peak), (1.0, 0.0)) for rank, peak in peaks.items()}
        return replace(recording(source, [1.0], [0], ranks), steps=(replace(step(source, 1.0, ranks), memory=memory),))

    found = compare(holding("predicted", FOLDED, {0: 90.0}), holding("measured", WHOLE, {0: 100.0, 1: 60.0}), PROGRAM)
    assert {rank: pair.error for rank, pair in found.activations.items()} == pytest.approx({0: -0.1, 1: 0.5})
    assert found.peak_activations is not None and found.peak_activations.error == pytest.approx(-0.1)
    assert found.to_json()["peak_activation_bytes"]["measured"] == 100.0
    unknown = compare(holding("predicted", FOLDED, {0: 90.0}), recording("measured", [1.0], [0], WHOLE), PROGRAM)
    assert unknown.peak_activations is None and unknown.to_json()["peak_activation_bytes"] is None


def test_quantile_interpolates() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0, 2.0], 0.9) == pytest.approx(1.9)
    assert quantile([7.0], 0.1) == 7.0


@pytest.fixture
def files(run: Run, tiny: list[str], tmp_path: Path) -> tuple[Path, Path]:
    """Two predictions; the second has a faster processor."""
    paths = tmp_path / "predicted.json.gz", tmp_path / "measured.json"
    for path, peak in zip(paths, ("80 GFLOP/s", "120 GFLOP/s"), strict=True):
        setting = f"topology.devices.cpu-core.peak.fp32={peak}"
        assert run("simulate", *tiny, "pp2", "--set", setting, "-o", path).code == 0
    return paths


def test_tolerance_decides_the_exit_code(run: Run, files: tuple[Path, Path]) -> None:
    assert run("compare", *files).code == 0
    assert run("compare", *files, "--tolerance", "90%").code == 0
    done = run("compare", *files, "--tolerance", "10%")
    assert done.code == 1
    assert "out of tolerance: +" in done.err
    assert "different inputs" in done.err
    assert run("compare", files[0], files[0], "--tolerance", "0%").code == 0


def test_another_plan_is_out_of_any_tolerance(run: Run, tiny: list[str], files: tuple[Path, Path]) -> None:
    other = files[0].with_name("other.json.gz")
    assert run("simulate", *tiny, "dp2", "-o", other).code == 0
    assert run("compare", files[0], other).code == 0
    assert run("compare", files[0], other, "--tolerance", "99%").code == 1


def test_every_format_tells_the_same(run: Run, files: tuple[Path, Path]) -> None:
    body = json.loads(run("compare", *files, "--format", "json").out)
    header, row = run("compare", *files, "--format", "csv").out.splitlines()
    assert float(dict(zip(header.split(","), row.split(","), strict=True))["error"]) == body["error"] > 0
    table = run("compare", *files).out
    assert all(kind in table for kind in body["kinds_s"])
    assert "in the order of the plan" in table
    assert "peak activations" in table


def test_a_run_that_was_cut_short_is_said_to_be(run: Run, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.json", tmp_path / "cut.json"
    recording("predicted", [1.0], [0], FOLDED).save(whole)
    replace(recording("measured", [1.0], [0], WHOLE), complete=False).save(cut)
    assert f"{cut} is of a run that was cut short" in run("compare", whole, cut).err
    replace(recording("measured", [], [], WHOLE), complete=False).save(cut)
    done = run("compare", whole, cut)
    assert done.code == 2
    assert "holds no step" in done.err


def test_wrong_files_and_tolerances_are_refused(run: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"format": "something else"}')
    done = run("compare", files[0], other)
    assert done.code == 2
    assert "is not a recording" in done.err
    assert run("compare", files[0], tmp_path / "absent.json").code == 2
    done = run("compare", *files, "--tolerance", "25")
    assert done.code == 2
    assert '--tolerance 25: "25" has no unit; write 25%, with the percent sign' in done.err
