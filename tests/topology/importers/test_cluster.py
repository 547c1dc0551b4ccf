"""Clusters are made smaller without changing what flows where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.reports.yaml_text import yaml_text
from simulator.topology.importers.cluster import MAX_CABLES, Cable, Cluster
from simulator.units import parse_bandwidth, parse_seconds, write_bandwidth, write_seconds

WIDE, NARROW = Cable(4.0, 1.0, "wide"), Cable(3.0, 2.0, "narrow")


def cluster(*cables: tuple[str, str, Cable]) -> Cluster:
    """Devices begin with d, the rest are switches."""
    made = Cluster("file")
    for name in dict.fromkeys(end for a, b, _ in cables for end in (a, b)):
        made.add_device(name, "gpu") if name.startswith("d") else made.add_switch(name)
    for a, b, cable in cables:
        made.join(a, b, cable)
    return made


def shown(made: Cluster) -> list[tuple[str, str, float, float]]:
    return [(a, b, cable.bandwidth, cable.latency) for a, b, cable in made.cables()]


def test_parallel_cables_are_a_trunk() -> None:
    made = cluster(("d0", "d1", WIDE), ("d1", "d0", NARROW))
    assert shown(made) == [("d0", "d1", 7.0, 2.0)]


def test_a_passive_part_is_a_piece_of_cable() -> None:
    made = cluster(("d0", "port", WIDE), ("port", "d1", NARROW))
    made.simplify(["port"])
    assert shown(made) == [("d0", "d1", 3.0, 3.0)]
    assert not made.switches


def test_switches_with_the_same_neighbours_are_one() -> None:
    made = cluster(*((device, switch, WIDE) for switch in "abc" for device in ("d0", "d1")))
    made.simplify()
    assert shown(made) == [("d0", "a", 12.0, 1.0), ("d1", "a", 12.0, 1.0)]


def test_unlike_switches_stay_apart() -> None:
    """NVSwitch and a network that join the same GPUs are two ways, not one wider one."""
    made = cluster(("d0", "a", NARROW), ("d1", "a", NARROW), ("d0", "b", WIDE), ("d1", "b", WIDE))
    made.simplify()
    assert [cable[:3] for cable in shown(made)] == [
        ("d0", "b", 4.0),
        ("d1", "b", 4.0),
        ("d0", "a", 3.0),
        ("d1", "a", 3.0),
    ]


def test_dead_ends_go() -> None:
    made = cluster(("d0", "a", WIDE), ("d1", "a", WIDE), ("a", "b", WIDE), ("b", "c", WIDE))
    made.simplify()
    assert list(made.switches) == ["a"]


def test_too_many_cables_are_refused() -> None:
    made = cluster(*((f"d{i}", "a", WIDE) for i in range(MAX_CABLES + 1)))
    with pytest.raises(InputError, match=r"file: has 10,001 cables"):
        made.document({})


@given(st.floats(min_value=1e-3, max_value=1e18))
def test_a_bandwidth_is_read_as_it_was_written(value: float) -> None:
    assert parse_bandwidth(write_bandwidth(value)) == value


@given(st.floats(min_value=1e-15, max_value=1e6) | st.just(0.0))
def test_seconds_are_read_as_they_were_written(value: float) -> None:
    assert parse_seconds(write_seconds(value)) == value


def test_long_text_is_written_once() -> None:
    import yaml

    reason = "words " * 20
    data = {"links": [{"between": ["a", "b"], "source": reason}, {"between": ["b", "c"], "source": reason}]}
    text = yaml_text(data)
    assert text.count("&id001") == 1
    assert text.count("*id001") == 1
    assert yaml.safe_load(text) == data
