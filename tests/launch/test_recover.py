"""What ranks of a failed run left behind becomes a recording that says that it is incomplete."""

from pathlib import Path
from typing import Any

import pytest

from simulator.load import Inputs, load
from simulator.results.compare import compare
from simulator.results.recording import Recording, write_json
from simulator.results.recover import recover

FIRST = [["0F0.0", 1.0, 2.0], ["0SEND_F0", 2.0, 2.1]]
SECOND = [["1RECV_F0", 1.5, 3.0], ["1F0.0", 3.0, 4.0]]


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return load("mlp-tiny", "local-cpu", "pp2")


def leave(folder: Path, rank: int, steps: list[Any], rounds: list[int], error: str = "") -> None:
    leads = [False] * len(steps)
    leads[:1] = [True] * bool(steps)
    body = {"error": error, "rounds": rounds, "leads": leads, "steps": steps}
    write_json(folder / f"partial-rank{rank}.json.gz", body)


def later(record: list[Any], seconds: float) -> list[Any]:
    return [[text, issued + seconds, end + seconds] for text, issued, end in record]


def test_steps_of_all_ranks_are_put_together(tmp_path: Path, inputs: Inputs) -> None:
    """The first step only shows where the second begins: where the first ended."""
    leave(tmp_path, 0, [FIRST, later(FIRST, 4), later(FIRST, 9)], [0, 0, 1], "lost: rank 1")
    leave(tmp_path, 1, [SECOND, later(SECOND, 4), later(SECOND, 9)], [0, 0, 1])
    recover(tmp_path, inputs)
    recording = Recording.load(tmp_path / "measured.json.gz")
    assert not recording.complete
    assert recording.source == "measured"
    assert recording.rounds == (0, 1)
    assert recording.inputs == inputs.resolved()
    assert recording.about["errors"] == ["lost: rank 1"]
    assert [step.step_time for step in recording.steps] == [4, 5]


def test_a_step_that_one_rank_did_not_finish_is_kept_as_far_as_it_went(tmp_path: Path, inputs: Inputs) -> None:
    leave(tmp_path, 0, [FIRST, later(FIRST[:1], 4)], [0, 0])
    leave(tmp_path, 1, [SECOND], [0])
    recover(tmp_path, inputs)
    (cut,) = Recording.load(tmp_path / "measured.json.gz").steps
    assert cut.begin == 4
    assert [str(span.instruction) for span in cut.spans] == ["0F0.0"]


@pytest.mark.parametrize("survivor", [0, 1])
def test_a_rank_that_left_nothing_does_not_take_the_rest_with_it(tmp_path: Path, inputs: Inputs, survivor: int) -> None:
    leave(tmp_path, survivor, [[FIRST, SECOND][survivor]], [0])
    recover(tmp_path, inputs)
    recording = Recording.load(tmp_path / "measured.json.gz")
    assert not recording.complete
    assert {span.rank for span in recording.steps[0].spans} == {survivor}
    assert compare(recording, recording, inputs.program).error == 0


def test_a_run_that_measured_nothing_leaves_no_recording(tmp_path: Path, inputs: Inputs) -> None:
    recover(tmp_path, inputs)
    leave(tmp_path, 0, [], [], "ran out of memory")
    recover(tmp_path, inputs)
    assert not (tmp_path / "measured.json.gz").exists()
