"""`plancast validate --tolerance`: the verdict on plans whose errors are made by hand, nothing is run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simulator.planning.validate import Validation
from simulator.results.verdict import Verdict, judge
from tests.compared import compared, recording

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([0.01, -0.02, 0.04], Verdict.PASSES),
        ([0.01, -0.02, 0.15], Verdict.UNDECIDED),
        ([-0.15, -0.02, -0.01], Verdict.UNDECIDED),
        ([0.3, -0.3], Verdict.UNDECIDED),
        ([0.12, 0.15, 0.2], Verdict.FAILS),
        ([-0.12, -0.15, -0.2], Verdict.FAILS),
        ([0.0], Verdict.UNDECIDED),
    ],
)
def test_a_plan_passes_only_if_the_whole_interval_is_within_the_tolerance(
    errors: list[float], verdict: Verdict
) -> None:
    assert judge(compared(errors), 0.1) is verdict


def test_the_ends_of_the_tolerance_belong_to_it() -> None:
    found = replace(compared([0.0, 0.0]), error_interval=(-0.1, 0.1))
    assert judge(found, 0.1) is Verdict.PASSES


@pytest.fixture
def validate(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Return the command, which finds these errors in three rounds instead of training."""

    def call(errors: dict[str, list[float]], *options: str) -> Any:
        results = [
            Validation(
                name=name,
                comparison=compared(found),
                ahead=None,
                timelines={"measured": recording("measured", [1.0]).steps[0]},
                calibrated=True,
            )
            for name, found in errors.items()
        ]
        monkeypatch.setattr("simulator.planning.validate.validate", lambda launch, earlier: results)
        inputs = ["--model", "linear-regression", "--topology", "local-cpu", "--plan", "dp2", "-o", str(tmp_path)]
        return run("validate", *inputs, *options)

    return call


NEAR, SCATTERED = [0.01, -0.02, 0.04], [0.01, -0.02, 0.15]


def test_all_plans_must_pass(validate: Callable[..., Any]) -> None:
    assert validate({"near": NEAR}, "--tolerance", "10%").code == 0
    done = validate({"near": NEAR, "scattered": SCATTERED}, "--tolerance", "10%", "--format", "json")
    assert done.code == 1
    assert [(told["name"], told["verdict"]) for told in json.loads(done.out)] == [
        ("near", "passes"),
        ("scattered", "undecided"),
    ]
    assert done.err == "scattered undecided: error +1 % (-2 to +15), allowed are 10%\n"


def test_without_a_tolerance_nothing_is_judged(validate: Callable[..., Any]) -> None:
    done = validate({"scattered": SCATTERED})
    assert done.code == 0
    assert "verdict" not in done.out
    assert "+1 % (-2 to +15)" in done.out


def test_the_table_says_the_verdict_and_its_rule(validate: Callable[..., Any], tmp_path: Path) -> None:
    done = validate({"near": NEAR}, "--tolerance", "10%")
    assert "passes" in done.out and "passes only if the whole 95 % interval" in done.out
    (kept,) = json.loads((tmp_path / "result.json").read_text())["results"]
    assert kept["verdict"] == "passes"
    assert kept["error_interval"] == pytest.approx([-0.02, 0.04])
