"""Recordings on disk: what is written is read, whole or not at all."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from simulator.errors import InputError
from simulator.program.instructions import Instruction
from simulator.results.metrics import measure
from simulator.results.recording import Recording, read_json, write_bytes, write_json
from simulator.results.timeline import Span, Timeline

STEP = Timeline(
    source="measured",
    begin=0.1,
    end=0.1 + 1 / 3,
    spans=(
        Span(0, Instruction.parse("0F0.3"), 0.1, 0.1, 0.2),
        Span(0, Instruction.parse("0REDUCE_GRAD.0"), 0.2, 0.25, 0.1 + 1 / 3),
        Span(3, Instruction.parse("1RECV_F12"), 0.1, 0.2, 0.3),
    ),
    ranks={0: (0, 1, 2), 3: (3,)},
    memory={0: ((0.1, 0.0), (0.2, 4096.0)), 3: ()},
)
RECORDING = Recording(
    source="measured",
    inputs={"plan": {"name": "x", "tp": 2}},
    steps=(STEP, STEP),
    rounds=(0, 4),
    about={"losses": [2.5, None]},
    complete=False,
)


@pytest.mark.parametrize("name", ["step.json", "step.json.gz"])
def test_what_was_saved_is_loaded_to_the_last_bit(tmp_path: Path, name: str) -> None:
    RECORDING.save(tmp_path / name)
    assert Recording.load(tmp_path / name) == RECORDING
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_a_step_without_memory_is_loaded() -> None:
    """As older recordings are, and those of runs that were cut short."""
    body = STEP.to_json()
    del body["memory"]
    assert Timeline.from_json(body) == replace(STEP, memory={})
    assert measure(Timeline.from_json(body)).peak_activation_bytes is None


def test_the_same_recording_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a.json.gz", "b.json.gz"):
        RECORDING.save(tmp_path / name)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_only_the_file_is_left_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "step.json.gz"
    RECORDING.save(path)
    RECORDING.save(path)
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "step.json"
    write_json(path, {"old": True})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("simulator.results.recording.os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert read_json(path) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


WHOLE = {"format": "plancast-recording-1", "source": "x", "inputs": {}, "about": {}, "complete": True, "rounds": [0]}
SPAN = {"source": "x", "begin": 0.0, "end": 1.0, "ranks": {"0": [0]}, "spans": [[0, "0Q0", 0.0, 0.0, 1.0]]}
BROKEN = {
    "empty": b"",
    "no JSON": b"{",
    "no text": b"\xff\xfe\x00",
    "cut gzip": gzip.compress(json.dumps(WHOLE).encode())[:-9],
    "no mapping": b"[1, 2]",
    "something else": b'{"format": "plancast-calibration-1"}',
    "a key missing": json.dumps(WHOLE).encode(),
    "an unknown instruction": json.dumps(WHOLE | {"steps": [SPAN]}).encode(),
    "steps of another kind": json.dumps(WHOLE | {"steps": [7]}).encode(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "step.json.gz"
    path.write_bytes(BROKEN[kind])
    with pytest.raises(InputError, match="cannot be read as a recording") as refused:
        Recording.load(path)
    assert str(path) in str(refused.value)


def test_a_corrupted_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step.json.gz"
    RECORDING.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read as a recording"):
        Recording.load(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read as a recording"):
            Recording.load(path)
