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


class Tick:
    """What SimPy needs to find in its queue."""

    __slots__ = ("callbacks",)
    _ok = True

    def __init__(self, call: Callable[[object], None]) -> None:
        self.callbacks: tuple[Callable[[object], None], ...] = (call,)

    def cancel(self) -> None:
        """Let nothing happen when the time comes; not to be called after that."""
        self.callbacks = ()


def after(env: simpy.Environment, seconds: float, call: Callable[[object], None], priority: int = NORMAL) -> Tick:
    """Call back when ``seconds``, not negative, have passed; see `at`."""
    return at(env, env._now + seconds, call, priority)


def at(env: simpy.Environment, moment: float, call: Callable[[object], None], priority: int = NORMAL) -> Tick:
    """Call back at some time; return what can be cancelled until then.

    Parameters
    ----------
    env
        SimPy's clock.
    moment
        Not before now, seconds.
    call
        Gets something that it must not look at.
    priority
        Order among what happens at the same instant.
    """
    queue: list[Any] = env._queue
    tick = Tick(call)
    heappush(queue, (moment, priority, next(env._eid), tick))
    return tick
