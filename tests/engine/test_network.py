"""The fluid network: hand-computed cases, and an independent solver that recomputes everything at every event."""

from collections.abc import Mapping
from typing import NamedTuple

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from simulator.engine.network import Network

INFINITE = float("inf")


class Demand(NamedTuple):
    begin: float
    size: float
    weights: Mapping[int, float]
    limit: float = INFINITE
    latency: float = 0.0


def ends(capacities: list[float], demands: list[Demand]) -> list[float]:
    """When each flow is done, by the network under test."""
    env = simpy.Environment()
    network = Network(env, capacities)
    found = [INFINITE] * len(demands)

    def start(index: int, demand: Demand) -> None:
        def done() -> None:
            found[index] = env.now

        fastest = network.alone(demand.weights, demand.limit)
        network.start(demand.weights, demand.size, fastest, done, demand.latency)

    for index, demand in enumerate(demands):
        timer = env.timeout(demand.begin - demand.latency)
        timer.callbacks.append(lambda _, index=index, demand=demand: start(index, demand))
    env.run()
    return found


def fair_rates(capacities: list[float], demands: list[Demand]) -> list[float]:
    """Max-min fairness by its definition: raise all that can rise by the largest common step."""
    rates = [0.0] * len(demands)
    rising = set(range(len(demands)))
    while rising:
        room = [
            (capacity - sum(rates[i] * demand.weights.get(resource, 0.0) for i, demand in enumerate(demands)))
            / sum(demands[i].weights.get(resource, 0.0) for i in rising)
            for resource, capacity in enumerate(capacities)
            if any(resource in demands[i].weights for i in rising)
        ]
        step = max(0.0, min([*room, *(demands[i].limit - rates[i] for i in rising)]))
        for i in rising:
            rates[i] += step
        for resource, capacity in enumerate(capacities):
            used = sum(rates[i] * demand.weights.get(resource, 0.0) for i, demand in enumerate(demands))
            if used >= capacity * (1 - 1e-12):
                rising -= {i for i in rising if resource in demands[i].weights}
        rising -= {i for i in rising if rates[i] >= demands[i].limit * (1 - 1e-12)}
    return rates


def textbook_ends(capacities: list[float], demands: list[Demand]) -> list[float]:
    """When each flow is done, stepping from event to event with all rates computed anew."""
    now, left, found = 0.0, [demand.size for demand in demands], [INFINITE] * len(demands)
    while INFINITE in found:
        active = [i for i, demand in enumerate(demands) if demand.begin <= now and found[i] == INFINITE]
        rates = fair_rates(capacities, [demands[i] for i in active])
        later = [demand.begin - now for demand in demands if demand.begin > now]
        step = min([*later, *(left[i] / rate for i, rate in zip(active, rates, strict=True))])
        # Times are compared below, so that the next begin must be met exactly.
        upcoming = min((demand.begin for demand in demands if demand.begin > now), default=INFINITE)
        now = upcoming if later and step == min(later) else now + step
        for i, rate in zip(active, rates, strict=True):
            left[i] -= rate * step
            if left[i] <= 1e-12 * demands[i].size:
                found[i] = now
    return found


@pytest.mark.parametrize(
    ("capacities", "demands", "expected"),
    [
        pytest.param([10], [Demand(0, 100, {0: 1})], [10], id="alone"),
        pytest.param([10], [Demand(0, 100, {0: 1}), Demand(0, 100, {0: 1})], [20, 20], id="two share"),
        # 5 s alone (50 left), then half each: both need 100 s of rate 5 -> the first is done at 15, the other at 20.
        pytest.param([10], [Demand(0, 100, {0: 1}), Demand(5, 100, {0: 1})], [15, 20], id="one comes later"),
        pytest.param([10], [Demand(0, 100, {0: 1}), Demand(0, 20, {0: 1})], [12, 4], id="one leaves earlier"),
        pytest.param([10], [Demand(0, 100, {0: 1}, limit=2), Demand(0, 80, {0: 1})], [50, 10], id="one is limited"),
        # Weight 3 loads the link three times: rates 2.5 and 2.5; the light one has 10 to itself afterwards.
        pytest.param([10], [Demand(0, 25, {0: 3}), Demand(0, 125, {0: 1})], [10, 20], id="weights"),
        # The long flow is held to 2 by the narrow link; the short one gets what is left of the wide link, 8.
        pytest.param([10, 2], [Demand(0, 20, {0: 1, 1: 1}), Demand(0, 80, {0: 1})], [10, 10], id="max-min"),
        pytest.param([10, 10], [Demand(0, 100, {0: 1}), Demand(0, 100, {1: 1})], [10, 10], id="apart"),
        pytest.param([10, 10, 4], [Demand(0, 30, {0: 1, 1: 1}), Demand(0, 70, {1: 1})], [6, 10], id="through another"),
    ],
)
def test_by_hand(capacities: list[float], demands: list[Demand], expected: list[float]) -> None:
    assert ends(capacities, demands) == pytest.approx(expected, rel=1e-12)


@st.composite
def crowded(draw: st.DrawFn) -> tuple[list[float], list[Demand]]:
    """A few resources of like capacity and flows that meet on them."""
    capacities = draw(st.lists(st.sampled_from([1.0, 2.0, 3.0, 8.0]), min_size=1, max_size=5))
    loads = st.dictionaries(
        st.integers(0, len(capacities) - 1), st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=3
    )
    demand = st.builds(
        Demand,
        begin=st.sampled_from([0.0, 0.5, 1.0, 3.0, 7.0]),
        size=st.sampled_from([0.25, 1.0, 2.0, 10.0]),
        weights=loads,
        limit=st.sampled_from([0.75, INFINITE]),
        latency=st.just(0.0),
    )
    return capacities, draw(st.lists(demand, min_size=1, max_size=7))


@given(crowded())
def test_equals_the_textbook(case: tuple[list[float], list[Demand]]) -> None:
    capacities, demands = case
    assert ends(capacities, demands) == pytest.approx(textbook_ends(capacities, demands), rel=1e-9)


@given(crowded(), st.data())
def test_latency_before_bytes(case: tuple[list[float], list[Demand]], data: st.DataObject) -> None:
    """Whoever is announced takes nothing before his bytes flow, though nobody else is there yet."""
    capacities, demands = case
    announced = [
        demand._replace(latency=data.draw(st.sampled_from([0.0, demand.begin / 4, demand.begin]))) for demand in demands
    ]
    assert ends(capacities, announced) == pytest.approx(textbook_ends(capacities, demands), rel=1e-9)
