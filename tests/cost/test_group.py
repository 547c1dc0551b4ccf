"""Which algorithm is chosen, what nccl-tests calls bandwidth, and what is refused."""

from collections.abc import Callable

import pytest

from simulator.cost.group import Group, bus_factor, collective_seconds
from simulator.topology import Topology

Build = Callable[[str], Topology]
PROTOCOLS = """\
collectives:
  protocols:
    - {algorithm: ring, name: LL, overhead: 1 us, latency: 50%, efficiency: 25%, source: made up}
    - {algorithm: ring, name: Simple, overhead: 9 us, latency: 150%, efficiency: 80%, copy: 100 GB/s, source: made up}
"""


def star(extra: str) -> str:
    from tests.cost.conftest import STAR

    return STAR + extra


def test_a_protocol_adds_overhead_latency_and_bytes(built: Build) -> None:
    topology = built(star(PROTOCOLS))
    small, large = 8e3, 800e6
    expected = 1e-6 + 14 * 0.5 * 2e-6 + 14 / 8 * small / 20e9 / 0.25
    assert collective_seconds(topology, range(8), "all_reduce", small) == pytest.approx(expected)
    expected = 9e-6 + large / 8 / 100e9 + 14 * 1.5 * 2e-6 + 14 / 8 * large / 20e9 / 0.8
    assert collective_seconds(topology, range(8), "all_reduce", large) == pytest.approx(expected)


def test_the_choice_goes_with_the_size(built: Build) -> None:
    group = Group(built(star(PROTOCOLS)), range(8))
    assert group.choose("all_reduce", 8e3).protocol == "LL"
    assert group.choose("all_reduce", 800e6).protocol == "Simple"
    # Halving and doubling would be faster, but this library has rings alone.
    assert group.choose("all_reduce", 8e3).algorithm == "ring"
    assert group.options("all_reduce", 8e3)[0].seconds < group.choose("all_reduce", 8e3).seconds


def test_without_protocols_small_sums_go_up_trees_and_large_ones_around_rings(boxes: Topology) -> None:
    group = Group(boxes, range(32))
    assert group.choose("all_reduce", 1e3).algorithm == "tree"
    assert group.choose("all_reduce", 1e9).algorithm == "ring"


def test_the_topology_may_choose(built: Build) -> None:
    group = Group(built(star("collectives: {choice: {all_reduce: halving_doubling}}\n")), range(8))
    assert group.choose("all_reduce", 1e3).algorithm == group.choose("all_reduce", 1e9).algorithm == "halving_doubling"
    # Not for six ranks, which are no power of two: there the library's own choice holds.
    assert Group(group.topology, range(6)).choose("all_reduce", 1e9).algorithm in ("ring", "tree")


def test_legs_add_up_to_the_time(boxes: Topology) -> None:
    group = Group(boxes, range(32))
    for option in group.options("all_reduce", 64e6):
        seconds = 0.0
        for leg in option.legs:
            slowest = max(load / boxes.links[link].bandwidth for link, load in leg.loads.items())
            seconds += leg.latency + leg.size * slowest
        assert option.seconds == pytest.approx(seconds), option.algorithm


def test_bus_bandwidth_is_that_of_nccl_tests() -> None:
    assert bus_factor("all_reduce", 4) == 2 * 3 / 4
    assert [bus_factor(each, 4) for each in ("all_gather", "reduce_scatter", "all_to_all")] == [0.75] * 3
    assert [bus_factor(each, 4) for each in ("broadcast", "send")] == [1.0] * 2


@pytest.mark.parametrize(
    ("ranks", "operation", "algorithm", "words"),
    [
        (range(1), "all_reduce", None, "at least two different ranks"),
        ((0, 0), "all_reduce", None, "at least two different ranks"),
        (range(8), "all_redcue", None, "did you mean all_reduce?"),
        (range(8), "all_reduce", "tre", "did you mean tree?"),
        (range(6), "all_reduce", "halving_doubling", "does no all_reduce here"),
        (range(8), "all_reduce", "hierarchical", "does no all_reduce here"),
        (range(3), "send", None, "send joins two ranks"),
        ((0, 8), "send", None, "rank 8 does not exist"),
    ],
)
def test_what_cannot_be_is_said(
    eight: Topology, ranks: range, operation: str, algorithm: str | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        collective_seconds(eight, ranks, operation, 1e6, algorithm)


@pytest.fixture
def eight(built: Build) -> Topology:
    return built(star(""))


def test_an_exchange_among_very_many_is_refused_at_once(built: Build) -> None:
    from tests.cost.conftest import BOXES

    many = built(BOXES.replace("nodes: 4", "nodes: 512"))
    with pytest.raises(ValueError, match="among 4096 ranks"):
        collective_seconds(many, range(4096), "all_to_all", 1e6)
