"""Pipeline schedules, one file each: a pure function (ranks, micro-batches, options) -> each rank's order."""

from __future__ import annotations

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
    v_half,
    v_min,
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
    v_half,
    v_min,
    dualpipe_v,
    chimera,
    hanayo,
    zb_auto,
    custom,
)

SCHEDULES: dict[str, ScheduleKind] = {module.KIND.name: module.KIND for module in _MODULES}
"""Every schedule by the name that a plan gives it."""

__all__ = ["SCHEDULES", "Options", "Schedule", "ScheduleKind", "Times"]
