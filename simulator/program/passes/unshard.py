"""Gather sharded parameters before they are read, and let go of them after."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby
from typing import NamedTuple

from simulator.program.instructions import FORWARD, Instruction, Kind
from simulator.program.program import Pass, Program
from simulator.program.sharding import BucketKey, buckets_read, unshard


class Visit(NamedTuple):
    """Instructions in a row that read the same buckets: where the first and the last stand, and if they stay whole."""

    buckets: tuple[BucketKey, ...]
    first: int
    last: int
    stays: bool


def insert_unshards(program: Program) -> Program:
    """Gather a block's parameters for each run of instructions that read them, some blocks ahead of the computation.

    Fully sharded data parallelism (Zhao et al. 2023, arXiv 2304.11277; ZeRO stage 3, arXiv 1910.02054) that lets go of
    parameters after forward and gathers them again for backward. A block that is read again at once stays. Gathering
    for the n-th run from here, n the plan's ``prefetch``, is issued before this one computes, so n + 1 blocks are whole
    at once, no more. With ``reshard_after_forward: false`` a block stays until no micro-batch is between its forward
    and its backward (SHARD_GRAD_OP of arXiv 2304.11277).
    """
    if not program.plan.is_sharded:
        return program.lowered(Pass.UNSHARD, program.lists)
    return program.lowered(Pass.UNSHARD, (_lower(program, instructions) for instructions in program.lists))


def _lower(program: Program, instructions: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
    visits = _visits(program, instructions)
    before: dict[int, list[Instruction]] = defaultdict(list)
    after: dict[int, list[Instruction]] = defaultdict(list)
    times: Counter[tuple[BucketKey, ...]] = Counter()
    freed: dict[tuple[BucketKey, ...], int] = {}
    whole: set[tuple[BucketKey, ...]] = set()
    for index, (buckets, _, last, stays) in enumerate(visits):
        gatherings = [unshard(program, bucket, times[buckets]) for bucket in buckets]
        if buckets not in whole:
            # No earlier than right after they were let go of.
            ahead = max(index - program.plan.prefetch, freed.get(buckets, -1) + 1)
            before[visits[ahead].first] += gatherings
            whole.add(buckets)
        if not stays:
            after[last] += [gathering._replace(kind=Kind.RESHARD) for gathering in gatherings]
            whole.remove(buckets)
            freed[buckets] = index
            times[buckets] += 1
    return tuple(
        each
        for place, instruction in enumerate(instructions)
        for each in (*before.get(place, ()), instruction, *after.get(place, ()))
    )


def _visits(program: Program, instructions: tuple[Instruction, ...]) -> list[Visit]:
    """Return the runs of instructions that read the buckets of one block each."""
    known = buckets_read(program)
    read = [(place, buckets) for place, each in enumerate(instructions) if (buckets := known.get(each.work()))]
    # How many more parts of a block a micro-batch has run forward than backward.
    between: dict[tuple[BucketKey, ...], Counter[int]] = defaultdict(Counter)
    visits = []
    for buckets, run in groupby(read, key=lambda entry: entry[1]):
        places = [place for place, _ in run]
        for kind, _, microbatch, _ in (instructions[place] for place in places):
            if kind is not Kind.R:
                between[buckets][microbatch] += 1 if kind in FORWARD else -1
        stays = not program.plan.reshard_after_forward and any(between[buckets].values())
        visits.append(Visit(buckets, places[0], places[-1], stays))
    return visits
