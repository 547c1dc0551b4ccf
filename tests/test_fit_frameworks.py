"""The fit of frameworks: test rows are never read."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

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
