"""Runs the command line inside the test's own process."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from simulator.cli import main

ISSUE_KEYS = {
    "step_time_s",
    "bubble_fraction",
    "bubble_overhead",
    "compute_time_s",
    "exposed_comm_time_s",
    "mfu",
    "hfu",
    "samples_per_second",
    "peak_memory_bytes",
    "fits",
    "speed_of_light_s",
    "serial_s",
    "world_size",
    "basis",
    "per_rank",
}
"""Keys of `simulate --format json` that scripts rely on: they may never go."""

TINY = ["--model", "gpt-tiny", "--topology", "local-cpu", "--plan"]


@dataclass
class Outcome:
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def tiny() -> list[str]:
    return list(TINY)


@pytest.fixture
def issue_keys() -> set[str]:
    return set(ISSUE_KEYS)
