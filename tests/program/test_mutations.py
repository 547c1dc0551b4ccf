"""verify() refuses every single-action mutation that changes what a program means, and names what was touched."""

import random
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from simulator.errors import ProgramError
from simulator.load import load
from simulator.program import Kind, Program, verify
from simulator.program.compile import PASSES
from simulator.program.instructions import BACKWARD
from simulator.program.schedules import SCHEDULES, Schedule
from simulator.program.schedules.one_step import verify_schedule
from tests.program.mutations import Mutation, Oracle

CUSTOM = Path(__file__).parent / "golden" / "zbv.txt"
PIPELINE = ("plan.dp=1",)
ALL_AXES = ("plan.dp=2", "plan.tp=2", "plan.bucket_size=1 MiB")
SHARED = [
    (*ALL_AXES, "plan.sharding=zero1"),
    (*ALL_AXES, "plan.sharding=zero1", "plan.overlap_param_gather=true"),
    (*ALL_AXES, "plan.sharding=zero2"),
]


@cache
def compiled(schedule: str, mesh: tuple[str, ...]) -> Program:
    """Return the program of a schedule for p = 4, m = 8."""
    changes = ["plan.pp=4", "plan.num_microbatches=8", f"plan.schedule={schedule}", "model.num_hidden_layers=8", *mesh]
    if schedule == "custom":
        changes += [f"plan.schedule_file={CUSTOM}", "plan.num_stages_per_rank=2"]
    return load(
        "gpt-tiny", "pcie-box", "single", [f"topology.node.count={4 if mesh is PIPELINE else 16}", *changes]
    ).program


def wrong_about(program: Program, oracle: Oracle, mutation: Mutation) -> str:
    """Return what verify() does not get right about a mutation; nothing if it does."""
    rank, golden = mutation.rank, program.lists[mutation.rank]
    try:
        verify(replace(program, lists=(*program.lists[:rank], mutation.applied(golden), *program.lists[rank + 1 :])))
    except ProgramError as error:
        message = str(error).splitlines()[0]
        named = message.startswith(f"pipeline rank {rank}, ") and any(
            str(each) in message.replace(":", "").split() for each in mutation.touched(golden)
        )
        return "" if named and not oracle.accepts(mutation) else message
    return "" if oracle.accepts(mutation) else "accepted"


def check(schedule: str, mesh: tuple[str, ...], share: int) -> None:
    """Look at one in ``share`` of all mutations."""
    program = compiled(schedule, mesh)
    oracle = Oracle(program)
    draw = random.Random(schedule)
    found = [
        (*mutation, *map(str, mutation.touched(order)), wrong)
        for rank, order in enumerate(program.lists)
        for position in range(len(order))
        for mutation in oracle.mutations(rank, position)
        if not draw.randrange(share) and (wrong := wrong_about(program, oracle, mutation))
    ]
    assert found == []


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_some_mutations(schedule: str) -> None:
    check(schedule, PIPELINE, share=30)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_some_mutations_with_all_axes(schedule: str) -> None:
    check(schedule, ALL_AXES, share=400)


@pytest.mark.parametrize("mesh", SHARED)
@pytest.mark.parametrize("schedule", ["1f1b", "zbv"])
def test_some_mutations_of_shared_updates(schedule: str, mesh: tuple[str, ...]) -> None:
    check(schedule, mesh, share=200)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_orders_with_two_actions_swapped(schedule: str) -> None:
    """What is lowered is sound if and only if the orders are: two independent proofs agree."""
    program, draw = compiled(schedule, PIPELINE), random.Random(schedule)
    golden = [[each for each in order if each.kind in (Kind.F, *BACKWARD)] for order in program.lists]
    assert all(each.part == 0 for order in golden for each in order)
    for _ in range(25):
        orders = [[each._replace(part=-1) for each in order] for order in golden]
        order = orders[draw.randrange(4)]
        one, other = draw.sample(range(len(order)), 2)
        order[one], order[other] = order[other], order[one]
        swapped = Schedule(program.placement, tuple(map(tuple, orders)), program.pipelines)
        mutated = replace(program, lists=swapped.orders)
        for lower in PASSES:
            mutated = lower(mutated)
        try:
            verify_schedule(swapped, 8)
        except ProgramError:
            with pytest.raises(ProgramError):
                verify(mutated)
        else:
            verify(mutated)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_all_mutations(schedule: str) -> None:
    check(schedule, PIPELINE, share=1)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_more_mutations_with_all_axes(schedule: str) -> None:
    check(schedule, ALL_AXES, share=20)


def test_the_oracle_knows_both_answers() -> None:
    """Independent neighbours may change places; what one hands to the other may not, nor may messages of a channel."""
    program = compiled("1f1b", PIPELINE)
    oracle = Oracle(program)
    answers = Counter(
        (mutation.what, oracle.accepts(mutation))
        for position in range(len(program.lists[1]))
        for mutation in oracle.mutations(1, position)
    )
    assert answers["drop", False] == len(program.lists[1])
    assert answers["duplicate", False] == 2 * len(program.lists[1])
    assert answers["swap", True] > 20
    assert answers["swap", False] > 100
    assert not any(answers[what, True] for what in ("drop", "duplicate"))
