"""Who communicates with whom in a program, and what: process groups, and channels between stages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.program.instructions import STREAMS_OF_GROUPS, Instruction, Kind, Lane, Stream
from simulator.program.program import Message, Program

Ints = NDArray[np.int64]


class Family(NamedTuple):
    """Media of one kind.

    Parameters
    ----------
    stream
        Where their messages run: of a channel, the sender's.
    ranks
        Members of each medium, one medium a row; over a channel the first sends to the second.
    lanes
        For each column the lane in which these members use the medium.
    messages
        What is sent over them, each once.
    """

    stream: Stream
    ranks: Ints
    lanes: tuple[Lane, ...]
    messages: tuple[Message, ...]


def find_families(program: Program) -> list[Family]:
    """Return all media of a program."""
    return [family for family in (*_groups(program), *_channels(program)) if len(family.ranks)]


def _groups(program: Program) -> Iterable[Family]:
    """Yield the process groups that the program uses."""
    for stream, axis in STREAMS_OF_GROUPS.items():
        messages = program.collectives.get(stream)
        groups = program.group_table(axis)
        if messages and groups.shape[1] > 1:
            yield Family(stream, groups, ((stream, -1),) * groups.shape[1], messages)


def _channels(program: Program) -> Iterable[Family]:
    """Yield the channels between each stage and the next one, there and back."""
    mesh = program.plan.mesh
    for stage in program.stages:
        here, there = stage.index, stage.index + 1
        if not stage.sends or program.hands_over(here, there):
            continue
        place = program.pipeline_rank(here)
        ranks = mesh.ranks_at("pp", place)
        after = ranks + (program.pipeline_rank(there) - place) * mesh.stride("pp")
        forward = ((Stream.SEND_F, here), (Stream.RECV_F, there))
        backward = ((Stream.SEND_B, there), (Stream.RECV_B, here))
        outputs, gradients = Instruction(Kind.SEND_F, here), Instruction(Kind.SEND_B, there)
        yield Family(Stream.SEND_F, np.stack([ranks, after], axis=1), forward, (program.message(outputs),))
        yield Family(Stream.SEND_B, np.stack([after, ranks], axis=1), backward, (program.message(gradients),))
