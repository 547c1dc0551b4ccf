"""verify() accepts what the compiler makes and rejects what was damaged, naming the place."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from simulator.errors import ProgramError
from simulator.load import load
from simulator.program import Instruction, Kind, Program, verify
from simulator.program.compile import PASSES
from simulator.program.dependencies import dependencies
from simulator.program.schedules import SCHEDULES, Options

FORMS = [
    ("gpt-tiny", "pp=2"),
    ("gpt-tiny", "pp=4", "schedule=gpipe"),
    ("gpt-tiny", "pp=2", "tp=2", "bucket_size=1 MiB"),
    ("mlp-tiny", "pp=2", "tp=2"),
    ("cnn-tiny", "tp=4", "dp_overlap=false"),
    ("gpt-tiny", "pp=4", "num_microbatches=2"),
    ("gpt-tiny", "pp=4", "schedule=zb_h1"),
    ("gpt-tiny", "pp=2", "schedule=interleaved_1f1b"),
    ("gpt-tiny", "pp=2", "schedule=zbv", "tp=2"),
    ("gpt-tiny", "pp=2", "tp=2", "recompute=full"),
    ("gpt-tiny", "pp=2", "sharding=fsdp"),
    ("gpt-tiny", "tp=2", "tp_overlap=true", "sequence_parallel=true"),
    ("gpt-tiny", "pp=2", "tp=2", "tp_overlap=true", "scatter_gather=true", "recompute=full"),
    ("gpt-tiny", "pp=2", "tp=2", "schedule=zbv", "tp_overlap=true", "scatter_gather=true"),
]


def changed(program: Program, rank: int, change: Callable[[list[Instruction]], None]) -> Program:
    """Return the program with one rank's list changed."""
    instructions = list(program.lists[rank])
    change(instructions)
    return replace(program, lists=(*program.lists[:rank], tuple(instructions), *program.lists[rank + 1 :]))


def refusal(program: Program) -> str:
    with pytest.raises(ProgramError) as raised:
        verify(program)
    first, *table = str(raised.value).splitlines()
    assert sum("<-- HERE" in line for line in table) == 1
    return first


@pytest.fixture(scope="session")
def damaged(program: Any) -> Callable[[st.DataObject], tuple[Program, int, int]]:
    """Draw a sound program and a place in it."""

    def draw(data: st.DataObject) -> tuple[Program, int, int]:
        compiled = program(*data.draw(st.sampled_from(FORMS)))
        rank = data.draw(st.integers(0, len(compiled.lists) - 1))
        return compiled, rank, data.draw(st.integers(0, len(compiled.lists[rank]) - 1))

    return draw


@pytest.mark.parametrize("form", FORMS)
def test_compiled_programs_are_sound(program: Any, form: tuple[str, ...]) -> None:
    verify(program(*form))


@given(st.data())
def test_a_dropped_instruction_is_missed(damaged: Any, data: st.DataObject) -> None:
    compiled, rank, place = damaged(data)
    lost = compiled.lists[rank][place]
    message = refusal(changed(compiled, rank, lambda each: each.pop(place)))
    assert message.startswith(f"pipeline rank {rank}, ")
    assert message.endswith(f": {lost} is missing")


@given(st.data())
def test_a_repeated_instruction_is_found(damaged: Any, data: st.DataObject) -> None:
    compiled, rank, place = damaged(data)
    again = data.draw(st.integers(0, len(compiled.lists[rank])))
    twice = compiled.lists[rank][place]
    message = refusal(changed(compiled, rank, lambda each: each.insert(again, twice)))
    assert message.endswith(f": {twice} appears 2 times, must appear once")


@given(st.data())
def test_an_instruction_before_what_it_needs_is_found(damaged: Any, data: st.DataObject) -> None:
    compiled, rank, place = damaged(data)
    needs = dependencies(compiled, compiled.lists[rank])[place]
    assume(needs)
    instruction, need = compiled.lists[rank][place], needs[0]
    # A gathering waits for memory, not for what is in it: it may come earlier, at the price of more memory.
    assume(instruction.kind is not Kind.UNSHARD)

    def swap(each: list[Instruction]) -> None:
        each[place], each[need] = each[need], each[place]

    message = refusal(changed(compiled, rank, swap))
    assert message.startswith(f"pipeline rank {rank}, ")
    assert "which it needs" in message
    assert instruction.kind is Kind.BARRIER or compiled.pipeline_rank(instruction.stage) == rank


@given(st.data())
def test_an_instruction_of_another_rank_or_microbatch_is_found(damaged: Any, data: st.DataObject) -> None:
    compiled, rank, place = damaged(data)
    key = data.draw(st.sampled_from(["microbatch", "stage", "part"]))
    stranger = compiled.lists[rank][place]._replace(**{key: 99})
    message = refusal(changed(compiled, rank, lambda each: each.__setitem__(place, stranger)))
    assert "does not belong on this rank" in message or "is missing" in message


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_micro_batch_too_many_is_found(program: Any, form: tuple[str, ...]) -> None:
    compiled = program(*form)
    last = compiled.plan.num_microbatches - 1
    extra = tuple(
        tuple(
            i
            for each in instructions
            for i in ((each, each._replace(microbatch=last + 1)) if each.microbatch == last else (each,))
        )
        for instructions in compiled.lists
    )
    assert "does not belong on this rank" in refusal(replace(compiled, lists=extra))


def test_channel_ends_that_disagree(program: Any) -> None:
    compiled = program("gpt-tiny", "pp=2", "schedule=gpipe")
    places = [index for index, each in enumerate(compiled.lists[1]) if each.kind is Kind.RECV_F]

    def receive_in_another_order(each: list[Instruction]) -> None:
        each[places[0]], each[places[1]] = each[places[1]], each[places[0]]

    message = refusal(changed(compiled, 1, receive_in_another_order))
    assert message.startswith("pipeline rank 1, ")
    assert message.endswith(": 1RECV_F0 is out of turn with 1RECV_F1: rank 0 has 0SEND_F0 before 0SEND_F1")


def test_schedules_that_wait_for_each_other(program: Any) -> None:
    """Stage 0 wants each gradient before it goes on; stage 1 wants all inputs before it sends the first gradient."""
    compiled = program("gpt-tiny", "pp=2", "num_microbatches=2")
    impatient = tuple(Instruction(kind, 0, microbatch) for microbatch in range(2) for kind in (Kind.F, Kind.B))
    mixed = replace(compiled, lists=(impatient, SCHEDULES["gpipe"].build(2, 2, Options()).orders[1]))
    for lower in PASSES:
        mixed = lower(mixed)
    assert "for ever: a deadlock" in refusal(mixed)


def test_gathering_where_nothing_is_sharded(program: Any) -> None:
    def gather(each: list[Instruction]) -> None:
        each[:0] = [Instruction.parse("0UNSHARD0.0"), Instruction.parse("0RESHARD0.0")]

    assert refusal(changed(program("gpt-tiny", "pp=4"), 0, gather)) == (
        "pipeline rank 0, instruction 0: 0UNSHARD0.0 does not belong on this rank"
    )


def test_an_update_before_the_last_backward(program: Any) -> None:
    compiled = program("gpt-tiny", "pp=2", "bucket_size=1 MiB")
    message = refusal(changed(compiled, 0, lambda each: each.insert(-2, each.pop())))
    assert "0OPTIM comes before" in message


def test_a_bucket_before_its_last_backward(program: Any) -> None:
    compiled = program("gpt-tiny", "dp_overlap=false", "num_microbatches=2")
    place = next(index for index, each in enumerate(compiled.lists[0]) if each.kind is Kind.REDUCE_GRAD)
    message = refusal(changed(compiled, 0, lambda each: each.insert(2, each.pop(place))))
    assert "0REDUCE_GRAD.0 comes before 0B1" in message


@pytest.mark.parametrize("schedule", sorted(SCHEDULES.keys() - {"custom"}))
def test_no_schedule_locks_when_sends_block(schedule: str) -> None:
    changes = ["plan.dp=auto", "plan.pp=4", "plan.num_microbatches=8", "plan.p2p_overlap=false"]
    load("gpt-tiny", "pcie-box", "single", [*changes, f"plan.schedule={schedule}", "model.num_hidden_layers=16"])


@pytest.mark.parametrize("schedule", ["1f1b", "zb_h1"])
def test_one_backward_of_another_kind_than_its_stage_is_found(program: Any, schedule: str) -> None:
    """Whole and split backwards of one stage stand side by side only where ``tp_overlap`` put them so."""
    compiled = program("gpt-tiny", "pp=2", "tp=2", f"schedule={schedule}")
    order = compiled.lists[0]
    place = next(index for index, each in enumerate(order) if each.kind in (Kind.B, Kind.I))

    def change(each: list[Instruction]) -> None:
        if each[place].kind is Kind.B:
            each[place : place + 1] = [each[place]._replace(kind=kind) for kind in (Kind.I, Kind.W)]
        else:
            each.remove(each[place]._replace(kind=Kind.W))
            each[place] = each[place]._replace(kind=Kind.B)

    assert "does not belong on this rank" in refusal(changed(compiled, 0, change))
