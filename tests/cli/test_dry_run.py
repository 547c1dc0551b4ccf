"""`plancast validate --dry-run`: scaling to a world, choosing ranks, and what it says when it cannot."""

import json
import subprocess
import sys

import pytest

from simulator.errors import InputError
from simulator.planning.world import scaled
from tests.cli.conftest import Run

DRY = ("validate", "--dry-run", "--model", "gpt-tiny", "--topology", "dgx-h100", "--plan", "tp2")


def test_a_world_is_made_of_nodes_and_replicas_that_keep_their_batch() -> None:
    found = scaled(1024, "gpt-tiny", "dgx-h100", "tp2", ["topology.nodes=2"])
    assert found == ["topology.nodes=128"]
    given = ["plan.dp=2", "plan.tp=4", "plan.global_batch_size=32", "plan.num_microbatches=null"]
    found = scaled(1024, "gpt-tiny", "dgx-h100", "single", given)
    assert found == ["topology.nodes=128", "plan.dp=256", "plan.global_batch_size=4096"]
    assert scaled(64, "gpt-tiny", "local-cpu", "single", [])[0] == "topology.node.count=64"


@pytest.mark.parametrize(
    ("world", "topology", "settings", "message"),
    [
        (1001, "dgx-h100", [], r"8 devices in a node of dgx-h100 do not divide 1001 \(remainder 1\); use --world 1000"),
        (8, "dgx-h100", ["plan.tp=3"], r"tp\(3\) \* pp\(1\) \* cp\(1\) = 3 does not divide 8 \(remainder 2\); use"),
        (64, "mixed-a100-h100", [], "none can be added"),
    ],
)
def test_a_world_that_cannot_be_says_its_arithmetic(
    world: int, topology: str, settings: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        scaled(world, "gpt-tiny", topology, "single", settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*DRY, "--ranks", "0,x"), "--ranks 0,x: is a list of whole numbers; write --ranks 0,17"),
        ((*DRY, "--ranks", "64", "--world", "64"), "--ranks 64: gpt-tiny-tp2 has the ranks 0 to 63"),
        ((DRY[0], *DRY[2:], "--world", "64"), "--world 64: is for dry runs alone; add --dry-run"),
    ],
)
def test_wrong_words_are_told(run: Run, arguments: tuple[str, ...], message: str) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_what_the_executor_does_not_train_is_told(run: Run) -> None:
    outcome = run(*DRY, "--set", "plan.dtype=fp16")
    assert outcome.code == 1
    assert "trains in fp16" in outcome.err


def test_ranks_agree_and_say_so() -> None:
    sizes = ("num_hidden_layers=1", "hidden_size=32", "num_attention_heads=4", "vocab_size=50", "sequence_length=16")
    arguments = [*DRY, "--world", "64", "--ranks", "63", "--format", "json"]
    arguments += [word for size in sizes for word in ("--set", f"model.{size}")]
    start = f"from simulator.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    ((result),) = json.loads(done.stdout)
    assert (result["name"], result["world_size"]) == ("gpt-tiny-tp2", 64)
    (rank,) = result["ranks"]
    assert rank["coordinates"] == {"pp": 0, "dp": 31, "cp": 0, "tp": 1}
    assert rank["agrees"]
    assert not rank["differences"]
    assert {each["verdict"] for each in rank["quantities"]} == {"equal"}
