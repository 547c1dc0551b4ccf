"""Whether training goes well: losses are numbers, and replicas hold the same parameters, bit for bit.

Every rank tells the others little: its loss, and one checksum for each set of ranks that must hold the same. It costs
one reading of the parameters and one small message, in a pause between steps, which no measured time contains.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from executor.interpreter import Interpreter
from simulator.errors import ExecutionError

BITS = {4: torch.int32, 2: torch.int16}
"""Whole numbers as wide as a parameter, by its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What a rank tells.

    Parameters
    ----------
    loss
        The last one that is not a number, else the last; None where a rank holds none.
    sums
        Ranks that must hold the same parameters, this one among them -> checksum of its own.
    stopping
        Whether the rank was told to stop.
    """

    loss: float | None
    sums: Mapping[tuple[int, ...], int]
    stopping: bool = False


class UnhealthyError(ExecutionError):
    """Training has gone wrong, and every rank knows it.

    Parameters
    ----------
    rank
        The one that it is about.
    message
        What is wrong.
    """

    def __init__(self, rank: int, message: str) -> None:
        super().__init__(rank, message)
        self.rank, self.message = rank, message


def examine(
    runtime: Interpreter, losses: Sequence[float | None], stopping: bool, control: dist.ProcessGroup
) -> list[int]:
    """Compare all ranks after a step; return those that were told to stop. All must ask together.

    Raises
    ------
    UnhealthyError
        A loss is not a number, or replicas differ.
    """
    known = [loss for loss in losses if loss is not None]
    loss = next((each for each in known if not math.isfinite(each)), known[-1] if known else None)
    sums = {ranks: checksum(tensors) for ranks, tensors in runtime.replicated().items()}
    everyone: list[Vitals] = [None] * dist.get_world_size(control)  # type: ignore[list-item]
    dist.all_gather_object(everyone, Vitals(loss=loss, sums=sums, stopping=stopping), group=control)
    found = diagnose(everyone)
    if found:
        raise UnhealthyError(found[0], f"after step {runtime.step_index}: {found[1]}")
    return [rank for rank, vitals in enumerate(everyone) if vitals.stopping]


def checksum(tensors: Sequence[Tensor]) -> int:
    """Return the sum of the bits of some parameters, read as whole numbers: one that differs anywhere differs here."""
    return sum(int(each.detach().view(BITS[each.element_size()]).sum(dtype=torch.int64)) for each in tensors)


def diagnose(vitals: Sequence[Vitals]) -> tuple[int, str] | None:
    """Return which rank is ill, and of what; None if all are well."""
    for rank, each in enumerate(vitals):
        if each.loss is not None and not math.isfinite(each.loss):
            return rank, f"its loss is {each.loss}; lower plan.optimizer.learning_rate"
    for rank, each in enumerate(vitals):
        for ranks in each.sums:
            found = {other: vitals[other].sums[ranks] for other in ranks}
            (common, times), *_ = Counter(found.values()).most_common()
            others = [other for other in ranks if found[other] == common]
            if times == len(ranks) or (rank in others and times > len(ranks) / 2):
                continue
            against = [other for other in (others if times > len(ranks) / 2 else ranks) if other != rank]
            return rank, f"its parameters differ from those of rank {', '.join(map(str, against))}, its replicas"
    return None
