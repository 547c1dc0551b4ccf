"""verify_schedule() accepts every schedule and refuses what was damaged, naming what was touched."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from simulator.errors import ProgramError
from simulator.program import Instruction
from simulator.program.schedules import Schedule
from simulator.program.schedules.one_step import verify_schedule
from tests.program.mutations import Mutation
from tests.program.schedules.list_scheduler import run
from tests.program.schedules.making import LISTED, make, rows

MUTATIONS = 150


def small() -> Schedule:
    return make("1f1b", 2, 2)


def refusal(schedule: Schedule, num_microbatches: int) -> list[str]:
    with pytest.raises(ProgramError) as raised:
        verify_schedule(schedule, num_microbatches)
    text = str(raised.value)
    assert text.count("<-- HERE") == 1
    return [line for line in text.splitlines() if line.startswith("pipeline rank")]


def changed(schedule: Schedule, rank: int, order: tuple[Instruction, ...]) -> Schedule:
    return replace(schedule, orders=(*schedule.orders[:rank], order, *schedule.orders[rank + 1 :]))


def is_sound(schedule: Schedule, golden: Schedule, num_microbatches: int) -> bool:
    """What the list scheduler says: it knows nothing of ``verify_schedule``."""
    if any(map(lambda new, old: Counter(new) != Counter(old), schedule.orders, golden.orders)):
        return False
    try:
        run(schedule, num_microbatches, 1, 1, 1)
    except AssertionError:
        return False
    return not crossings(schedule)


def crossings(schedule: Schedule) -> list[tuple[int, bool]]:
    """Borders between ranks at which the two stages take micro-batches in different orders."""
    depth = len(schedule.placement) // schedule.pipelines

    def turns(stage: int, forward: bool) -> list[int]:
        order = schedule.orders[schedule.placement[stage]]
        kinds = "F" if forward else "BI"
        return [each.microbatch for each in order if each.stage == stage and each.kind.value in kinds]

    return [
        (stage, forward)
        for stage in range(1, len(schedule.placement))
        for forward in (True, False)
        if stage % depth and schedule.placement[stage] != schedule.placement[stage - 1]
        if turns(stage, forward) != turns(stage - 1, forward)
    ]


@pytest.mark.parametrize("name", LISTED)
def test_mutations(name: str) -> None:
    schedule, draw = make(name, 4, 8), random.Random(name)
    answers: Counter[tuple[str, bool]] = Counter()
    for _ in range(MUTATIONS):
        rank = draw.randrange(4)
        golden = schedule.orders[rank]
        position, other = sorted(draw.sample(range(len(golden)), 2))
        what = draw.choice(["drop", "duplicate", "swap", "swap", "swap"])
        mutation = Mutation(what, rank, position, other)
        mutated = changed(schedule, rank, mutation.applied(golden))
        answers[what, sound := is_sound(mutated, schedule, 8)] += 1
        if sound:
            verify_schedule(mutated, 8)
        else:
            # A circle of waiting ranks is named whole: turning any two actions round that it names would open it. Of
            # two stages that take micro-batches in different orders nobody knows which is right.
            lines = " ".join(refusal(mutated, 8)).replace(",", "").replace(":", "")
            words = lines.split()
            assert f"rank {rank}" in lines
            assert any(
                str(touched) in words or ("out of turn" in lines and f"stage {touched.stage}" in lines)
                for touched in mutation.touched(golden)
            ), (mutation, lines)
    assert answers["swap", False] > 10
    assert not answers["drop", True] + answers["duplicate", True]


@pytest.mark.parametrize("name", LISTED)
def test_whole_schedules(name: str) -> None:
    schedule = make(name, 4, 8)
    verify_schedule(schedule, 8)
    lines = refusal(schedule, 10)
    assert all(line.endswith(" is missing") or "another replica" in line for line in lines)
    last = [text for text in " ".join(rows(schedule)).split() if text.endswith("7")]
    assert sorted(line.split()[5] for line in refusal(schedule, 7) if "of micro-batch 7" in line) == sorted(last)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("0F2", "0F2 is of micro-batch 2"),
        ("7F0", "7F0 is of stage 7"),
        ("1F0", "1F0 is in the row of rank 0, but stage 1 in that of rank 1"),
        ("0F0", "0F0 comes twice"),
        ("0W0", "0W0 comes beside 0B0"),
        ("0SEND_F0", "0SEND_F0 is not an F, B, I or W of a micro-batch"),
    ],
)
def test_what_does_not_belong(action: str, message: str) -> None:
    schedule = small()
    order = (*schedule.orders[0], Instruction.parse(action))
    assert refusal(changed(schedule, 0, order), 2) == [f"pipeline rank 0, action 4: {message}"]


def test_replicas_keep_to_their_micro_batches() -> None:
    """Chimera's second replica runs the upper half."""
    schedule = make("chimera", 2, 2)
    wrong = tuple(each._replace(microbatch=0) for each in schedule.orders[0] if each.stage == 3)
    found = refusal(changed(schedule, 0, (*schedule.orders[0], *wrong)), 2)
    assert found[0].endswith(": 3F0 is of a micro-batch that another replica of the stages runs")
