"""Calls in SimPy's queue come when SimPy's own timeouts would, in the same order."""

import simpy
from hypothesis import given
from hypothesis import strategies as st

from simulator.engine.clock import AFTER_ALL_ELSE, NORMAL, after

DELAYS = st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=4), min_size=1, max_size=6)


def chain(env: simpy.Environment, delays: list[list[float]], *, own: bool) -> list[tuple[float, int, int]]:
    """Let each chain of delays run; return (when, chain, link) in order."""
    seen: list[tuple[float, int, int]] = []

    def go(index: int, link: int) -> None:
        def arrived(_: object) -> None:
            seen.append((env.now, index, link))
            if link + 1 < len(delays[index]):
                go(index, link + 1)

        if own:
            after(env, delays[index][link], arrived)
        else:
            callbacks = env.timeout(delays[index][link]).callbacks
            assert callbacks is not None
            callbacks.append(arrived)

    for index in range(len(delays)):
        go(index, 0)
    env.run()
    return seen


@given(DELAYS)
def test_like_timeouts(delays: list[list[float]]) -> None:
    ours = chain(simpy.Environment(), delays, own=True)
    assert ours == chain(simpy.Environment(), delays, own=False)
    assert len(ours) == sum(map(len, delays))


def test_beside_timeouts_and_processes() -> None:
    env, seen = simpy.Environment(), []

    def waits() -> simpy.events.ProcessGenerator:
        yield env.timeout(1.0)
        seen.append("process")

    env.process(waits())
    after(env, 2.0, lambda _: seen.append("late"))
    after(env, 0.5, lambda _: seen.append("early"))
    env.run(until=1.5)
    assert (seen, env.now) == (["early", "process"], 1.5)
    env.run()
    assert (seen, env.now) == (["early", "process", "late"], 2.0)


def test_behind_all_else_of_the_instant() -> None:
    env, seen = simpy.Environment(), []
    after(env, 1.0, lambda _: seen.append("last"), AFTER_ALL_ELSE)
    after(env, 1.0, lambda _: after(env, 0.0, lambda _: seen.append("caused")), NORMAL)
    after(env, 1.0, lambda _: seen.append("first"))
    env.run()
    assert seen == ["first", "caused", "last"]


def test_what_is_cancelled_does_not_come() -> None:
    env, seen = simpy.Environment(), []
    late = after(env, 2.0, lambda _: seen.append("late"))
    after(env, 1.0, lambda _: late.cancel())
    after(env, 3.0, lambda _: seen.append("last"))
    env.run()
    assert seen == ["last"]
