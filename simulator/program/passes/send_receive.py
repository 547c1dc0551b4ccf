"""Insert the sends and receives between stages."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Pass, Program

STARTS_BACKWARD = (Kind.B, Kind.I)
"""Actions that need the gradient of a stage's outputs and make that of its inputs."""


def insert_sends_and_receives(program: Program) -> Program:
    """Send right after the action that makes a tensor; post the receive one action before the one that needs it.

    Posting early lets the message travel while the rank computes, and lets gloo write straight into the buffer.
    """
    return program.lowered(Pass.SEND_RECEIVE, (_lower(program, actions) for actions in program.lists))


def _lower(program: Program, actions: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
    lowered: list[Instruction] = []
    for index, action in enumerate(actions):
        if index == 0:
            lowered += _receive(program, action)
        if index + 1 < len(actions):
            lowered += _receive(program, actions[index + 1])
        lowered.append(action)
        lowered += _send(program, action)
    return tuple(lowered)


def _receive(program: Program, action: Instruction) -> list[Instruction]:
    stage = program.stages[action.stage]
    if action.kind is Kind.F and stage.receives and not program.hands_over(stage.index, stage.index - 1):
        return [action._replace(kind=Kind.RECV_F)]
    if action.kind in STARTS_BACKWARD and stage.gradients_in and not program.hands_over(stage.index, stage.index + 1):
        return [action._replace(kind=Kind.RECV_B)]
    return []


def _send(program: Program, action: Instruction) -> list[Instruction]:
    stage = program.stages[action.stage]
    if action.kind is Kind.F and stage.sends and not program.hands_over(stage.index, stage.index + 1):
        return [action._replace(kind=Kind.SEND_F)]
    if action.kind in STARTS_BACKWARD and stage.gradients_out and not program.hands_over(stage.index, stage.index - 1):
        return [action._replace(kind=Kind.SEND_B)]
    return []
