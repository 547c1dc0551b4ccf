"""Shorthands for making schedules in tests."""

from simulator.program.schedules import SCHEDULES, Options, Schedule

LISTED = [name for name in SCHEDULES if name != "custom"]
"""Schedules that need no file."""


def make(name: str, num_ranks: int, num_microbatches: int, v: int | None = None) -> Schedule:
    kind = SCHEDULES[name]
    v = v or kind.usual_stages_per_rank
    assert kind.check(num_ranks, num_microbatches, v) is None
    return kind.build(num_ranks, num_microbatches, Options(num_stages_per_rank=v))


def rows(schedule: Schedule) -> list[str]:
    return [" ".join(map(str, order)) for order in schedule.orders]
