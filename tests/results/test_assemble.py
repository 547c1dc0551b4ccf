"""From what each rank saw to one timeline: who waited, who communicated, and when the step was."""

import pytest

from simulator.load import load
from simulator.program.program import Program
from simulator.results.assemble import assemble
from simulator.results.metrics import measure
from simulator.results.timeline import Span, Timeline

MODEL, TOPOLOGY = "mlp-tiny", "local-cpu"


@pytest.fixture(scope="module")
def pipeline() -> Program:
    return load(MODEL, TOPOLOGY, "pp2").program


@pytest.fixture(scope="module")
def replicas() -> Program:
    return load(MODEL, TOPOLOGY, "dp2").program


def span(timeline: Timeline, rank: int, text: str) -> Span:
    return next(each for each in timeline.of(rank) if str(each.instruction) == text)


FIRST = [("0F0.0", 1.0, 2.0), ("0SEND_F0", 2.0, 2.1)]
SECOND = [("1RECV_F0", 1.5, 3.0), ("1F0.0", 3.0, 4.0)]


def test_a_message_starts_with_its_last_participant(pipeline: Program) -> None:
    timeline = assemble(pipeline, [FIRST, SECOND])
    receive = span(timeline, 1, "1RECV_F0")
    assert (receive.issued, receive.start, receive.end) == (1.5, 2.0, 3.0)
    assert span(timeline, 0, "0SEND_F0").start == 2.0


def test_a_late_receiver_keeps_the_sender_waiting(pipeline: Program) -> None:
    timeline = assemble(pipeline, [FIRST, [("1RECV_F0", 5.0, 5.5)]])
    send = span(timeline, 0, "0SEND_F0")
    assert (send.issued, send.start, send.end) == (2.0, 5.0, 5.5)


@pytest.mark.parametrize("told", [2.1, 9.0])
def test_a_sender_ends_with_its_receiver(pipeline: Program, told: float) -> None:
    """Whether the sender's library answered before the message arrived or long after."""
    timeline = assemble(pipeline, [[FIRST[0], ("0SEND_F0", 2.0, told)], SECOND])
    assert span(timeline, 0, "0SEND_F0").end == span(timeline, 1, "1RECV_F0").end == 3.0


def test_messages_of_other_microbatches_are_others(pipeline: Program) -> None:
    timeline = assemble(pipeline, [[*FIRST, ("0SEND_F1", 6.0, 6.1)], [*SECOND, ("1RECV_F1", 4.0, 7.0)]])
    assert span(timeline, 1, "1RECV_F0").start == 2.0
    assert span(timeline, 1, "1RECV_F1").start == 6.0


def test_messages_of_the_second_pipeline_meet() -> None:
    """Chimera's stages 2 and 3 are copies of stages 0 and 1, from the last rank to the first."""
    chimera = load(MODEL, TOPOLOGY, "pp2", ["plan.schedule=chimera"]).program
    timeline = assemble(chimera, [[("3RECV_F4", 1.5, 3.0)], [("2F4.0", 1.0, 2.0), ("2SEND_F4", 2.0, 9.0)]])
    receive, send = span(timeline, 0, "3RECV_F4"), span(timeline, 1, "2SEND_F4")
    assert (receive.start, receive.end) == (send.start, send.end) == (2.0, 3.0)


def test_gradients_travel_the_other_way(pipeline: Program) -> None:
    timeline = assemble(pipeline, [[("0RECV_B0", 1.0, 6.0)], [("1SEND_B0", 5.0, 5.1)]])
    assert span(timeline, 0, "0RECV_B0").start == 5.0
    assert span(timeline, 1, "1SEND_B0").end == 6.0


def test_every_member_of_a_collective_starts_with_the_last_and_ends_by_itself(replicas: Program) -> None:
    timeline = assemble(replicas, [[("0REDUCE_GRAD.0", 1.0, 4.0)], [("0REDUCE_GRAD.0", 3.0, 4.5)]])
    assert [(each.start, each.end) for each in timeline.spans] == [(3.0, 4.0), (3.0, 4.5)]


def test_the_step_begins_with_the_last_rank_and_ends_with_the_last_instruction(pipeline: Program) -> None:
    timeline = assemble(pipeline, [FIRST, SECOND])
    assert (timeline.begin, timeline.end, timeline.step_time) == (1.5, 4.0, 2.5)
    assert timeline.source == "measured"
    assert timeline.ranks == {0: (0,), 1: (1,)}


def test_waiting_is_no_communication(pipeline: Program) -> None:
    ranks = {each.rank: each for each in measure(assemble(pipeline, [FIRST, SECOND])).per_rank}
    assert ranks[1].exposed_comm_time == pytest.approx(1.0)
    assert ranks[1].bubble_time == pytest.approx(0.5)


def test_a_rank_whose_record_was_lost_leaves_the_rest_as_it_was(pipeline: Program) -> None:
    timeline = assemble(pipeline, [FIRST, []])
    assert list(timeline.ranks) == [0], "nothing is known of the other; it was not idle"
    send = span(timeline, 0, "0SEND_F0")
    assert (send.start, send.end) == (2.0, 2.1)
    assert (timeline.begin, timeline.end) == (1.0, 2.1)


def test_nothing_recorded_is_an_empty_step(pipeline: Program) -> None:
    assert assemble(pipeline, [[], []]).step_time == 0.0
