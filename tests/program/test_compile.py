"""What plans compile to, written out."""

from typing import Any

import pytest

from simulator.program import Kind
from simulator.program.instructions import Instruction
from simulator.program.schedules import SCHEDULES, Options


def orders(name: str, num_ranks: int, num_microbatches: int) -> tuple[tuple[Instruction, ...], ...]:
    """Return a schedule's order of each rank."""
    return SCHEDULES[name].build(num_ranks, num_microbatches, Options()).orders


def text(instructions: Any) -> str:
    return " ".join(map(str, instructions))


def test_gpipe_order() -> None:
    assert list(map(text, orders("gpipe", 2, 3))) == ["0F0 0F1 0F2 0B0 0B1 0B2", "1F0 1F1 1F2 1B0 1B1 1B2"]


def test_1f1b_order() -> None:
    assert list(map(text, orders("1f1b", 3, 4))) == [
        "0F0 0F1 0F2 0B0 0F3 0B1 0B2 0B3",
        "1F0 1F1 1B0 1F2 1B1 1F3 1B2 1B3",
        "2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3",
    ]


def test_fewer_microbatches_than_stages() -> None:
    assert list(map(text, orders("1f1b", 3, 1))) == ["0F0 0B0", "1F0 1B0", "2F0 2B0"]


def test_two_stages(program: Any) -> None:
    first, second = program("mlp-tiny", "pp=2", "num_microbatches=2", devices=2).lists
    assert text(first) == "0F0.0 0SEND_F0 0RECV_B0 0F1.0 0SEND_F1 0RECV_B1 0B0.0 0B1.0 0BARRIER 0OPTIM"
    assert text(second) == "1RECV_F0 1F0.0 1RECV_F1 1B0.0 1SEND_B0 1F1.0 1B1.0 1SEND_B1 0BARRIER 1OPTIM"


def test_without_the_barrier_every_rank_updates_at_once(program: Any) -> None:
    lists = program("mlp-tiny", "pp=2", "num_microbatches=2", "optimizer_barrier=false", devices=2).lists
    assert [text(each).split()[-2:] for each in lists] == [["0B1.0", "0OPTIM"], ["1SEND_B1", "1OPTIM"]]


def test_tensor_parallel_segments(program: Any) -> None:
    (only,) = program("mlp-tiny", "tp=2", "num_microbatches=1", devices=2).lists
    assert text(only) == ("0F0.0 0TP_F0.1 0F0.2 0F0.4 0TP_F0.5 0F0.6 0B0.6 0B0.4 0TP_B0.3 0B0.2 0B0.0 0OPTIM")


@pytest.mark.parametrize("overlap", ["true", "false"])
def test_gradients_are_reduced_in_the_last_microbatch(program: Any, overlap: str) -> None:
    plan = (f"dp_overlap={overlap}", "num_microbatches=2", "bucket_size=4 MiB")
    (only,) = program("mlp-tiny", *plan, devices=2).lists
    places = [index for index, each in enumerate(only) if each.kind is Kind.REDUCE_GRAD]
    last_backward = max(index for index, each in enumerate(only) if each.kind is Kind.B)
    assert [only[index].part for index in places] == list(range(len(places)))
    assert len(places) > 2
    assert (places[0] < last_backward) == (overlap == "true")
    assert min(places) > max(index for index, each in enumerate(only) if each.microbatch == 0)


@pytest.mark.parametrize("changes", [(), ("tp=2",), ("pp=4",), ("bucket_size=100 kB",), ("bucket_size=1 GiB",)])
def test_buckets_hold_every_parameter_once(program: Any, changes: tuple[str, ...]) -> None:
    for stage in program("gpt-tiny", *changes).stages:
        names = [name for bucket in stage.buckets for name in bucket.nodes]
        assert sorted(names) == sorted(node.name for node in stage.nodes if node.layer.num_parameters)
        assert sum(bucket.elements for bucket in stage.buckets) == stage.num_parameters


def test_buckets_close_when_full(program: Any) -> None:
    compiled = program("gpt-tiny", "bucket_size=1 MiB")
    *full, rest = compiled.stages[0].buckets
    assert all(bucket.elements * 4 >= 2**20 for bucket in full)
    assert rest.elements > 0
    # A bucket is at most one node over its size.
    largest = max(node.layer.num_parameters for node in compiled.stages[0].nodes)
    assert all(bucket.elements * 4 < 2**20 + largest * 4 for bucket in full)


def test_messages_between_stages(program: Any) -> None:
    compiled = program("gpt-tiny", "pp=2", "microbatch_size=3", "dtype=bf16")
    (send,) = [each for each in compiled.lists[0] if str(each) == "0SEND_F2"]
    assert compiled.message(send).size == 3 * 128 * 256 * 2  # samples x sequence x hidden x bf16
    assert compiled.peers(1, send) == (1, 5)
    (receive,) = [each for each in compiled.lists[1] if str(each) == "1RECV_F2"]
    assert compiled.message(receive) == compiled.message(send)
    assert compiled.peers(5, receive) == (1, 5)


def test_sizes_of_all_reduces(program: Any) -> None:
    compiled = program("gpt-tiny", "tp=2", "vocab_parallel=false", "microbatch_size=3")
    sizes = {compiled.message(each).size for each in compiled.lists[0] if each.kind is Kind.TP_F}
    assert sizes == {3 * 128 * 256 * 4}
    assert all(compiled.peers(3, each) == (2, 3) for each in compiled.lists[0] if each.kind is Kind.TP_B)
    buckets = [each for each in compiled.lists[0] if each.kind is Kind.REDUCE_GRAD]
    assert sum(compiled.message(each).size for each in buckets) == 4 * compiled.stages[0].num_parameters
    assert compiled.peers(3, buckets[0]) == (1, 3, 5, 7)
