"""Calls after some time, at a third of the price of SimPy's timeouts.

The only module that knows SimPy's queue: entries are (time, priority, number, event), and of an event that happens
SimPy reads ``callbacks`` and ``_ok``. The tests hold it against the timeouts of the SimPy in use.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any

import simpy

NORMAL = 1
"""SimPy's priority of timeouts."""

AFTER_ALL_ELSE = 2
"""Behind NORMAL events: when everything else of this instant has happened."""


class _Tick:
    """What SimPy needs to find in its queue."""

    __slots__ = ("callbacks",)
    _ok = True

    def __init__(self, call: Callable[[object], None]) -> None:
        self.callbacks = (call,)


def after(env: simpy.Environment, seconds: float, call: Callable[[object], None], priority: int = NORMAL) -> None:
    """Call back when ``seconds`` have passed.

    Parameters
    ----------
    env
        SimPy's clock.
    seconds
        Not negative.
    call
        Gets something that it must not look at.
    priority
        Order among what happens at the same instant.
    """
    queue: list[Any] = env._queue
    heappush(queue, (env._now + seconds, priority, next(env._eid), _Tick(call)))
