"""What makes a set of actions one training step: each stage takes each micro-batch forward once and backward once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules.base import Problem

NEEDS = {Kind.B: Kind.F, Kind.I: Kind.F, Kind.W: Kind.I}
"""What must come before, on the same rank."""

EXCLUDES = {Kind.F: (), Kind.B: (Kind.I, Kind.W), Kind.I: (Kind.B,), Kind.W: (Kind.B,)}
"""A backward is whole or split, not both."""


class Step:
    """Collects the actions of a step and tells what is wrong with each."""

    def __init__(self, num_microbatches: int) -> None:
        self.num_microbatches = num_microbatches
        self._ranks: dict[int, int] = {}
        self._seen: set[tuple[Kind, int, int]] = set()
        self._counts: Counter[tuple[Kind, int]] = Counter()

    @property
    def placement(self) -> tuple[int, ...]:
        """Rank of each stage."""
        return tuple(self._ranks[stage] for stage in sorted(self._ranks))

    def add(self, rank: int, action: Instruction) -> list[Problem]:
        """Take in the next action of a rank; return what is wrong with it."""
        problems: list[Problem] = []
        kind, stage, microbatch, _ = action
        home = self._ranks.setdefault(stage, rank)
        if home != rank:
            text = f"{action} is in the row of rank {rank}, but stage {stage} in that of rank {home}"
            problems.append((text, "keep a stage in one row"))
        if microbatch >= self.num_microbatches:
            legal = f"num_microbatches is {self.num_microbatches}: use 0 to {self.num_microbatches - 1}"
            problems.append((f"{action} is of micro-batch {microbatch}", legal))
        if (kind, stage, microbatch) in self._seen:
            problems.append((f"{action} comes twice", "remove one"))
        for other in EXCLUDES[kind]:
            if (other, stage, microbatch) in self._seen:
                twin = Instruction(other, stage, microbatch)
                problems.append((f"{action} comes beside {twin}", "a backward is B, or I and W"))
        before = NEEDS.get(kind)
        if before and not problems and (before, stage, microbatch) not in self._seen:
            need = Instruction(before, stage, microbatch)
            problems.append((f"{action} comes without {need} before it", f"put {need} before it in the row"))
        self._seen.add((kind, stage, microbatch))
        self._counts[kind, stage] += 1
        return problems

    def missing(self, num_ranks: int, orders: Sequence[Sequence[Instruction]]) -> list[Problem]:
        """Return what a whole step has beyond the actions so far."""
        if len(orders) != num_ranks:
            return [(f"has {len(orders)} rows, but pp is {num_ranks}", "write one row of actions per pipeline rank")]
        idle = [rank for rank, order in enumerate(orders) if not order]
        if idle:
            return [(f"row {rank + 1} has no actions", f"give rank {rank} a stage") for rank in idle]
        absent = next((stage for stage in range(len(self._ranks)) if stage not in self._ranks), None)
        if absent is not None:
            return [(f"stage {absent} is missing", f"stages are numbered from 0; the last is {max(self._ranks)}")]
        return [problem for stage in range(len(self._ranks)) for problem in self._gaps(stage)]

    def _gaps(self, stage: int) -> list[Problem]:
        """Return what a stage lacks, given that nothing it has is wrong."""
        forwards, backwards, inputs, weights = (self._counts[kind, stage] for kind in (Kind.F, Kind.B, Kind.I, Kind.W))
        if forwards == self.num_microbatches == backwards + inputs and inputs == weights:
            return []
        wanted = (
            (Kind.F, (Kind.F,), "every stage takes every micro-batch forward"),
            (Kind.B, (Kind.B, Kind.I), "every forward needs its B, or I and W"),
            (Kind.W, (Kind.B, Kind.W), "every I needs its W"),
        )
        for kind, either, rule in wanted:
            for microbatch in range(self.num_microbatches):
                if not any((other, stage, microbatch) in self._seen for other in either):
                    return [(f"{Instruction(kind, stage, microbatch)} is missing", rule)]
        return []
