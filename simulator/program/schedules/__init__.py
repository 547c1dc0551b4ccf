"""Pipeline schedules, one file each: a pure function (ranks, micro-batches, options) -> each rank's order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.program.schedules import (
    chimera,
    custom,
    dualpipe_v,
    gpipe,
    hanayo,
    interleaved_1f1b,
    interleaved_zero_bubble,
    looped_bfs,
    naive,
    one_f_one_b,
    zb_auto,
    zb_h1,
    zb_h2,
    zbv,
)
from simulator.program.schedules.base import Options, Schedule, ScheduleKind, Times

_MODULES = (
    naive,
    gpipe,
    one_f_one_b,
    interleaved_1f1b,
    looped_bfs,
    zb_h1,
    zb_h2,
    interleaved_zero_bubble,
    zbv,
    dualpipe_v,
    chimera,
    hanayo,
    zb_auto,
    custom,
)

SCHEDULE_KINDS: dict[str, ScheduleKind] = {module.KIND.name: module.KIND for module in _MODULES}
"""Every schedule by the name that a plan gives it."""


def _either(kind: ScheduleKind) -> Callable[..., Any]:
    def build(num_ranks: int, num_microbatches: int, options: Options | None = None) -> Any:
        schedule = kind.build(num_ranks, num_microbatches, options or Options())
        return schedule if options else schedule.orders

    return build


SCHEDULES: dict[str, Callable[..., Any]] = {name: _either(SCHEDULE_KINDS[name]) for name in ("1f1b", "gpipe")}
"""For callers not on SCHEDULE_KINDS yet: (p, m) gives the orders, (p, m, options) the whole schedule."""

__all__ = ["SCHEDULES", "SCHEDULE_KINDS", "Options", "Schedule", "ScheduleKind", "Times"]
