"""Pipeline schedules, one file each: a pure function (stages, micro-batches) -> each rank's order of F and B."""

from collections.abc import Callable

from simulator.program.instructions import Instruction
from simulator.program.schedules.gpipe import gpipe
from simulator.program.schedules.one_f_one_b import one_f_one_b

Schedule = Callable[[int, int], tuple[tuple[Instruction, ...], ...]]

SCHEDULES: dict[str, Schedule] = {"1f1b": one_f_one_b, "gpipe": gpipe}

__all__ = ["SCHEDULES", "Schedule"]
