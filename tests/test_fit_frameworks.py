"""The fit of frameworks: test rows are never read."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.plan.frameworks import Framework
from simulator.published import Row

CELLS = {
    "hardware": "A100-SXM4-80GB",
    "gpus": "1",
    "framework": "PyTorch FSDP",
    "arch": "gpt",
    "layers": "1",
    "hidden": "512",
    "heads": "8",
    "vocab": "1024",
    "seq_len": "512",
    "micro_batch": "1",
    "global_batch": "1",
    "spec_level": "A",
}


@pytest.fixture
def fit_frameworks(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import fit_frameworks

    yield fit_frameworks
    sys.modules.pop("fit_frameworks", None)


class Poison(dict[str, str]):
    """Cells of a row of which nothing may be read but its role."""

    def get(self, key: str, default: object = None) -> str:  # type: ignore[override]
        assert key == "role", f"{key} of a test row was read"
        return "test"


def test_a_fit_reads_calibration_rows_alone(fit_frameworks: ModuleType) -> None:
    good = Row(path="runs.csv", line=2, cells=CELLS | {"role": "calibration", "step_time_s": "0.01"})
    poisoned = Row(path="runs.csv", line=3, cells=Poison())
    found = fit_frameworks.runs([good, poisoned], "calibration")
    assert [len(members) for members in found.values()] == [1]


def test_each_constant_is_tried_anew_on_the_same_run(fit_frameworks: ModuleType) -> None:
    """A program keeps what its tasks cost; what it was worked out with must count."""
    row = Row(path="runs.csv", line=2, cells=CELLS | {"role": "calibration", "step_time_s": "0.01"})
    ((name, chosen),) = fit_frameworks.runs([row], "calibration").items()
    shipped = fit_frameworks.FRAMEWORKS[name]
    slower = replace(shipped, step=shipped.step + 1.0)
    first, second, again = (fit_frameworks.errors(name, each, chosen)[0] for each in (shipped, slower, shipped))
    assert second > first == again


def test_a_constant_at_the_end_of_its_range_does_not_hold_the_others(
    fit_frameworks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best of all were a step of -10 ms with 1.3; of what may be, it is none with 1.1."""

    def errors(name: str, framework: Framework, chosen: object) -> NDArray[np.float64]:
        return 0.3 * (framework.elementwise + np.array([10, 20, 30]) * framework.step - np.array([1.2, 1.1, 1.0]))

    monkeypatch.setattr(fit_frameworks, "errors", errors)
    found = fit_frameworks.fit("megatron", [None] * 3)
    assert found.step == 0
    assert found.elementwise == pytest.approx(1.1, abs=1e-3)
