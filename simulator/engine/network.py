"""One fluid model for everything that is shared: links, and a host's cores.

Flows get max-min fair rates by progressive filling (Bertsekas and Gallager, Data Networks, section 6.5.2): all rates
rise together until a resource is full; its flows stay there, the others rise on. Rates are recomputed once an instant,
and only for the flows that share a resource, directly or through others, with one that came or went.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import simpy

from simulator.engine.clock import AFTER_ALL_ELSE, Tick, after, at

INFINITE = float("inf")


class Flow:
    """Something that moves ``remaining`` units at ``rate`` units/s from ``since`` on, loading its resources."""

    __slots__ = ("done", "limit", "rate", "remaining", "since", "timer", "weights")

    def __init__(
        self, weights: Mapping[int, float], size: float, limit: float, done: Callable[[], None], since: float
    ) -> None:
        self.weights = weights
        self.remaining = size
        self.limit = limit
        self.done = done
        self.rate = 0.0
        self.since = since
        self.timer: Tick | None = None


class Network:
    """Shares resources among flows.

    Parameters
    ----------
    env
        SimPy's clock.
    capacities
        Units/s of each resource.
    """

    def __init__(self, env: simpy.Environment, capacities: Sequence[float]) -> None:
        self._env = env
        self._capacities = capacities
        self._flows: list[dict[Flow, None]] = [{} for _ in capacities]
        self._dirty: dict[int, None] = {}

    def alone(self, weights: Mapping[int, float], limit: float) -> float:
        """Return the rate that a flow gets when nobody else is there."""
        return alone(self._capacities, weights, limit)

    def start(
        self, weights: Mapping[int, float], size: float, limit: float, done: Callable[[], None], latency: float = 0.0
    ) -> None:
        """Let ``latency`` seconds pass, then a flow of ``size`` units; call back at its end.

        ``limit`` is the rate that it gets when nobody else is there, see `alone`. A flow that finds its resources empty
        takes them at once, so that its end is known; if somebody else comes before its bytes flow, it gives them back.
        """
        flow = Flow(weights, size, limit, done, self._env.now + latency)
        if not latency:
            self._join(flow)
        elif any(map(self._flows.__getitem__, weights)):
            at(self._env, flow.since, partial(self._join, flow))
        else:
            for resource in weights:
                self._flows[resource][flow] = None
            self._set_rate(flow, limit)

    def _join(self, flow: Flow, _: object = None) -> None:
        """Let a flow begin."""
        now, lonely = self._env.now, True
        for resource in flow.weights:
            others = self._flows[resource]
            if others and (first := next(iter(others))).since > now:
                self._put_off(first)
            if others:
                lonely = False
            others[flow] = None
        if lonely:
            self._set_rate(flow, flow.limit)
        else:
            self._mark(flow.weights)

    def _put_off(self, flow: Flow) -> None:
        """Take back a flow whose bytes do not flow yet: it has had its resources to itself."""
        for resource in flow.weights:
            del self._flows[resource][flow]
        assert flow.timer
        flow.timer.cancel()
        flow.timer, flow.rate = None, 0.0
        at(self._env, flow.since, partial(self._join, flow))

    def _mark(self, resources: Iterable[int]) -> None:
        """Remember that the flows on these resources need new rates at the end of this instant."""
        if not self._dirty:
            after(self._env, 0.0, self._solve, AFTER_ALL_ELSE)
        self._dirty.update(dict.fromkeys(resources))

    def _set_rate(self, flow: Flow, rate: float) -> None:
        now = self._env.now
        if flow.timer:
            flow.timer.cancel()
            flow.remaining -= flow.rate * (now - flow.since)
            flow.since = now
        flow.rate = rate
        flow.timer = at(self._env, flow.since + max(0.0, flow.remaining) / rate, partial(self._finish, flow))

    def _finish(self, flow: Flow, _: object = None) -> None:
        shared = False
        for resource in flow.weights:
            others = self._flows[resource]
            del others[flow]
            if others:
                shared = True
        if shared:
            self._mark(flow.weights)
        flow.done()

    def _solve(self, _: object = None) -> None:
        flows = self._component(self._dirty)
        self._dirty = {}
        for flow, rate in fill(flows, self._capacities).items():
            # A rate that did not change keeps its timer.
            if rate != flow.rate:
                self._set_rate(flow, rate)

    def _component(self, resources: Iterable[int]) -> list[Flow]:
        """Return the flows connected with these resources through shared resources."""
        seen: dict[int, None] = dict.fromkeys(resources)
        queue = list(seen)
        found: dict[Flow, None] = {}
        while queue:
            for flow in self._flows[queue.pop()]:
                if flow not in found:
                    found[flow] = None
                    fresh = [resource for resource in flow.weights if resource not in seen]
                    seen.update(dict.fromkeys(fresh))
                    queue += fresh
        return list(found)


def alone(capacities: Sequence[float], weights: Mapping[int, float], limit: float) -> float:
    """Return the rate that a flow gets when nobody else is there."""
    return min([limit, *(capacities[resource] / weight for resource, weight in weights.items())])


def fill(flows: Iterable[Flow], capacities: Sequence[float]) -> dict[Flow, float]:
    """Return the max-min fair rates of flows by progressive filling."""
    rates: dict[Flow, float] = {}
    rising = dict.fromkeys(flows)
    crossing: dict[int, dict[Flow, float]] = {}
    for flow in rising:
        for resource, weight in flow.weights.items():
            crossing.setdefault(resource, {})[flow] = weight
    free = {resource: capacities[resource] for resource in crossing}
    load = {resource: sum(loads.values()) for resource, loads in crossing.items()}
    while rising:
        level = min([*(flow.limit for flow in rising), *(free[resource] / load[resource] for resource in load)])
        full = [resource for resource in load if free[resource] / load[resource] <= level * (1 + 1e-12)]
        fixed = dict.fromkeys(flow for resource in full for flow in crossing[resource])
        fixed |= dict.fromkeys(flow for flow in rising if flow.limit <= level)
        for flow in fixed:
            del rising[flow]
            rates[flow] = level
            for resource, weight in flow.weights.items():
                free[resource] = max(0.0, free[resource] - weight * level)
                del crossing[resource][flow]
                load[resource] -= weight
                if not crossing[resource]:
                    # What rounding leaves of a sum of weights must not count as a flow.
                    del load[resource]
    return rates
