"""Gather sharded parameters before they are read, and let go of them after."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby

from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Pass, Program
from simulator.program.sharding import buckets_read


def insert_unshards(program: Program) -> Program:
    """Gather a block's parameters for each run of instructions that read them, one block ahead of the computation.

    Fully sharded data parallelism (Zhao et al. 2023, arXiv 2304.11277; ZeRO stage 3, arXiv 1910.02054) that lets go of
    parameters after forward and gathers them again for backward. A block that is read again at once stays. Gathering
    for the next run is issued before this one computes, so two blocks are whole at once, no more.
    """
    if not program.plan.is_sharded:
        return program.lowered(Pass.UNSHARD, program.lists)
    return program.lowered(Pass.UNSHARD, (_lower(program, instructions) for instructions in program.lists))


def _lower(program: Program, instructions: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
    buckets = buckets_read(program)
    read = [(place, bucket) for place, each in enumerate(instructions) if (bucket := buckets.get(each.work()))]
    runs = [(bucket, [place for place, _ in run]) for bucket, run in groupby(read, key=lambda entry: entry[1])]
    before: dict[int, list[Instruction]] = defaultdict(list)
    after: dict[int, list[Instruction]] = defaultdict(list)
    times: Counter[tuple[int, int]] = Counter()
    for index, ((stage, part), places) in enumerate(runs):
        gathering = Instruction(Kind.UNSHARD, stage, times[stage, part], part)
        before[runs[max(0, index - 1)][1][0]].append(gathering)
        after[places[-1]].append(gathering._replace(kind=Kind.RESHARD))
        times[stage, part] += 1
    return tuple(
        each
        for place, instruction in enumerate(instructions)
        for each in (*before.get(place, ()), instruction, *after.get(place, ()))
    )
