"""Bring back the parameters that the host has updated."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Pass, Program


def insert_parameter_fetches(program: Program) -> Program:
    """Bring each bucket back behind the update, in the order in which forward reads them.

    ZeRO-Offload (Ren et al. 2021, arXiv 2101.06840): gradients go to the host while backward goes on, the host updates,
    and the device receives the 16-bit parameters. Each bucket that has come may be gathered while the next one comes.
    """
    if not program.plan.updates_on_host:
        return program.lowered(Pass.FETCH_PARAM, program.lists)
    lists = (
        (
            *instructions,
            *(
                Instruction(Kind.PARAM_FROM_HOST, stage.index, part=index)
                for stage in program.stages_of(rank)
                for index in reversed(range(len(stage.buckets)))
            ),
        )
        for rank, instructions in enumerate(program.lists)
    )
    return program.lowered(Pass.FETCH_PARAM, lists)
