"""What a Program fixes of the order holds in every prediction, and a recording that breaks it is found out."""

from dataclasses import replace

import pytest

from simulator.load import load
from simulator.planning import predict
from simulator.program.program import Program
from simulator.program.schedules import SCHEDULES
from simulator.results.assemble import assemble
from simulator.results.order import disorder, misfit
from simulator.results.timeline import Span, Timeline

SIZES = ["topology.node.count=8", "plan.pp=4", "plan.num_microbatches=8", "model.num_hidden_layers=8"]


@pytest.mark.parametrize(
    "mesh", [("plan.dp=2",), ("plan.tp=2",), ("plan.dp=2", "plan.p2p_overlap=false")], ids=" ".join
)
@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "custom"])
def test_predictions_are_in_order(schedule: str, mesh: tuple[str, ...]) -> None:
    inputs = load("gpt-tiny", "local-cpu", "single", [*SIZES, f"plan.schedule={schedule}", *mesh])
    for folding in (True, False):
        assert list(disorder(inputs.program, [predict(inputs, folding=folding).timeline])) == []


@pytest.fixture(scope="module")
def program() -> Program:
    return load("gpt-tiny", "local-cpu", "pp2", ["plan.num_microbatches=2"]).program


# A second for each computation and for each message, 2 s for backwards.
FIRST = [
    ("0F0.0", 0.0, 1.0),
    ("0SEND_F0", 1.0, 2.0),
    ("0RECV_B0", 1.0, 6.0),
    ("0F1.0", 1.0, 2.0),
    ("0SEND_F1", 2.0, 4.0),
    ("0RECV_B1", 2.0, 9.0),
    ("0B0.0", 6.0, 8.0),
    ("0B1.0", 9.0, 11.0),
    ("0BARRIER", 11.0, 12.0),
    ("0OPTIM", 12.0, 13.0),
]
SECOND = [
    ("1RECV_F0", 0.0, 2.0),
    ("1F0.0", 2.0, 3.0),
    ("1RECV_F1", 2.0, 4.0),
    ("1B0.0", 3.0, 5.0),
    ("1SEND_B0", 5.0, 6.0),
    ("1F1.0", 5.0, 6.0),
    ("1B1.0", 6.0, 8.0),
    ("1SEND_B1", 8.0, 9.0),
    ("0BARRIER", 8.0, 12.0),
    ("1OPTIM", 12.0, 13.0),
]


def doctored(program: Program, rank: int, **changes: tuple[float, float]) -> Timeline:
    """Return the step with other times of issue and of end for some instructions of a rank."""
    named = {name.replace("_0", ".0"): times for name, times in changes.items()}
    steps = [FIRST, SECOND]
    steps[rank] = [(text, *named.get(text.lstrip("01"), (issued, end))) for text, issued, end in steps[rank]]
    return assemble(program, steps)


def test_a_sound_recording_is_in_order(program: Program) -> None:
    assert list(disorder(program, [doctored(program, 0)])) == []


@pytest.mark.parametrize(
    ("rank", "changes", "found"),
    [
        # Received before it was sent: at 0.5 s, and the forward after it too, so that rank 1 alone looks sound.
        (
            1,
            {"RECV_F0": (0.0, 0.5), "F0_0": (0.5, 3.0)},
            "rank 1 was done with 1RECV_F0 500 ms before rank 0 came to it",
        ),
        (
            0,
            {"RECV_B0": (1.0, 4.5), "B0_0": (4.5, 8.0)},
            "rank 0 was done with 0RECV_B0 500 ms before rank 1 came to it",
        ),
        # Two forwards of rank 0 swapped, each with its message.
        (
            0,
            {"F0_0": (1.0, 2.0), "F1_0": (0.0, 1.0), "SEND_F0": (2.0, 2.0)},
            "rank 0 began 0F1.0 2 s too early: 0F0.0 comes first",
        ),
        # A forward that did not wait for its input, though its message came in time.
        (1, {"F0_0": (1.5, 3.0)}, "rank 1 issued 1F0.0 500 ms before 1RECV_F0 was done, which it needs"),
        # A message that left before it was computed.
        (1, {"SEND_B0": (4.0, 6.0)}, "rank 1 issued 1SEND_B0 1 s before 1B0.0 was done, which it needs"),
        # An update before everybody had come to the barrier.
        (
            1,
            {"BARRIER": (8.0, 10.0), "OPTIM": (10.0, 11.0)},
            "rank 1 was done with 0BARRIER 1 s before rank 0 came to it",
        ),
    ],
)
def test_what_came_too_early_is_named(
    program: Program, rank: int, changes: dict[str, tuple[float, float]], found: str
) -> None:
    step = doctored(program, rank, **changes)
    assert list(disorder(program, [step])) == [found]


def test_clocks_that_differ_are_forgiven_as_far_as_they_may(program: Program) -> None:
    step = doctored(program, 1, RECV_F0=(0.0, 0.5), F0_0=(0.5, 3.0))
    assert list(disorder(program, [step], clock_error=0.6)) == []
    assert len(list(disorder(program, [step], clock_error=0.4))) == 1


def test_what_did_not_run_is_missed(program: Program) -> None:
    cut = assemble(program, [FIRST[:-1], [*SECOND, ("1F2.0", 13.0, 14.0)]])
    assert list(disorder(program, [cut])) == [
        "rank 0 did not run 0OPTIM",
        "rank 1 ran 1F2.0, which is not in its list",
    ]
    again = assemble(program, [FIRST, [*SECOND, ("1OPTIM", 13.0, 14.0)]])
    assert list(disorder(program, [again])) == ["rank 1 ran 11 instructions, 1 of them not for the first time"]
    lost = assemble(program, [FIRST, []])
    assert list(disorder(program, [lost])) == [], "nothing is known of a rank whose record was lost"


def test_a_run_that_was_cut_short_fits_its_program(program: Program) -> None:
    cut = assemble(program, [FIRST[:3], []])
    assert misfit(program, cut, whole=False) == ""
    assert misfit(program, cut) == "is of 1 rank, but the plan has 2"
    assert misfit(program, assemble(program, [FIRST, SECOND])) == ""


def test_every_member_of_a_group_is_looked_at() -> None:
    inputs = load("gpt-tiny", "local-cpu", "single", ["topology.node.count=4", "plan.dp=2", "plan.pp=2"])
    step = predict(inputs, folding=False).timeline

    def hasty(span: Span) -> Span:
        ends = span.rank == 3 and str(span.instruction) == "1REDUCE_GRAD.0"
        return span._replace(end=span.issued - 1e-3) if ends else span

    assert list(disorder(inputs.program, [replace(step, spans=tuple(map(hasty, step.spans)))])) == [
        "rank 3 was done with 1REDUCE_GRAD.0 1 ms before rank 2 came to it"
    ]
