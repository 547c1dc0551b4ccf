"""The text form of instructions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.program import Instruction, Kind
from simulator.program.instructions import ENDS, STREAM_OF

INSTRUCTIONS = st.builds(
    Instruction,
    kind=st.sampled_from(Kind),
    stage=st.integers(0, 999),
    microbatch=st.integers(-1, 999),
    part=st.integers(-1, 999),
)


@given(INSTRUCTIONS)
def test_text_parses_back(instruction: Instruction) -> None:
    assert Instruction.parse(str(instruction)) == instruction


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        (Instruction(Kind.F, 2, 0), "2F0"),
        (Instruction(Kind.F, 2, 0, 3), "2F0.3"),
        (Instruction(Kind.B, 0, 11, 0), "0B11.0"),
        (Instruction(Kind.SEND_F, 3, 1), "3SEND_F1"),
        (Instruction(Kind.RECV_B, 0, 7), "0RECV_B7"),
        (Instruction(Kind.TP_B, 1, 2, 4), "1TP_B2.4"),
        (Instruction(Kind.REDUCE_GRAD, 1, part=0), "1REDUCE_GRAD.0"),
        (Instruction(Kind.OPTIM, 5), "5OPTIM"),
    ],
)
def test_text_form(instruction: Instruction, text: str) -> None:
    assert str(instruction) == text


@pytest.mark.parametrize("text", ["", "F0", "2", "2f0", "2JUMP0", "-1F0", "2F0.", "2F-1", "2F0 ", "2F0.1.2"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an instruction; write"):
        Instruction.parse(text)


def test_every_kind_has_a_stream_and_every_message_two_ends() -> None:
    assert set(STREAM_OF) == set(Kind)
    for kind, (other, step) in ENDS.items():
        assert ENDS[other] == (kind, -step)


def test_every_program_survives_its_text(program: Any) -> None:
    for instructions in program("gpt-tiny", "pp=2", "tp=2").lists:
        assert tuple(Instruction.parse(str(each)) for each in instructions) == instructions
