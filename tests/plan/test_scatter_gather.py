"""Messages between stages cut over tensor-parallel ranks: what is sent, what is gathered, and what is refused."""

from typing import Any

import pytest

from simulator.errors import InputError
from simulator.program import Instruction, Kind, Program

PARTS = "scatter_gather=true"


def sent(program: Program) -> dict[Kind, float]:
    """Return the bytes of a rank's messages between stages, and what ranks gather for a micro-batch."""
    kinds = (Kind.SEND_F, Kind.SEND_B, Kind.RECV_F, Kind.RECV_B)
    found = {each.kind: program.message(each).size for rank in program.lists for each in rank if each.kind in kinds}
    gathered = [
        program.message(each).size
        for rank in program.lists
        for each in rank
        if each.kind in (Kind.TP_F, Kind.TP_B)
        and each.microbatch == 0
        and program.message(each).operation == "all_gather"
    ]
    return found | {Kind.TP_F: sum(gathered)}


def test_each_rank_sends_a_part_and_gathers_the_whole(planned: Any) -> None:
    whole, parts = (sent(planned("gpt-tiny", 8, "tp=4", "pp=2", *keys).program) for keys in ((), (PARTS,)))
    ends = (Kind.SEND_F, Kind.SEND_B, Kind.RECV_F, Kind.RECV_B)
    assert {kind: parts[kind] for kind in ends} == {kind: whole[kind] / 4 for kind in ends}
    assert whole[Kind.TP_F] == 0
    # Once forward and once backward, all of what crosses the border.
    assert parts[Kind.TP_F] == 2 * whole[Kind.SEND_F]


def test_nothing_is_gathered_between_stages_of_one_rank(planned: Any) -> None:
    keys = ("tp=2", "pp=2", "schedule=zbv", "model.num_hidden_layers=4", PARTS)
    program = planned("gpt-tiny", 4, *keys).program
    cut = [stage.index for stage in program.stages[1:] if stage.segments[0].exchange]
    # Of four stages on two ranks, the border between the second and the third lies on one rank.
    assert cut == [1, 3]


def test_a_tensor_that_crosses_two_borders_is_gathered_behind_each(planned: Any) -> None:
    program = planned("gpt-tiny", 8, "tp=2", "pp=4", "model.num_hidden_layers=4", PARTS).program
    for stage in program.stages[1:]:
        (name,) = stage.receives
        assert program.parts_of_message(name) == 2
        assert stage.segments[0].forward is Kind.TP_F and stage.segments[0].inputs == (name,)
        assert program.message(Instruction(Kind.RECV_F, stage.index, 0)).size == program.tensor_bytes((name,)) / 2


def test_what_was_gathered_stays_where_blocks_run_again(planned: Any) -> None:
    program = planned("gpt-tiny", 4, "tp=2", "pp=2", "recompute=full", PARTS).program
    assert program.stages[1].segments[0].again is None


@pytest.mark.parametrize(
    ("model", "keys", "told"),
    [
        ("gpt-tiny", ("sequence_parallel=true",), "each rank has a part of the sequence already"),
        (
            "mlp-tiny",
            ("model.hidden_sizes=[6,7,6,7]",),
            r"tp\(2\) does not divide the 7 elements of relu1, which goes",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(planned: Any, model: str, keys: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        planned(model, 4, "tp=2", "pp=2", *keys, PARTS)
