"""Labs on paper: hosts, switches, cables and routes counted by hand; nothing is built."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps, loads

import pytest

from simulator.errors import InputError
from simulator.inputs.presets import preset_names
from simulator.load import load_topology
from simulator.netlab.blueprint import Blueprint, Places, draw
from simulator.netlab.commands import addressing, shaping
from simulator.netlab.lab import Lab
from simulator.netlab.network import seen
from simulator.netlab.wire import GOODPUT, Wire
from simulator.units import parse_bandwidth, parse_seconds

SHIPPED = [name for name in preset_names("topologies") if name.startswith("netlab-")]


def lab_of(topology: str, delayed: bool = False) -> Lab:
    return Lab(name="x", topology=topology, blueprint=draw(load_topology(topology)), delayed=delayed)


@pytest.mark.parametrize("name", SHIPPED)
def test_packets_arrive_over_the_topologys_route(name: str) -> None:
    """Hops lead from any host to any other over as many cables as the route has links outside its two hosts."""
    topology = load_topology(name)
    ways = {(hop.space, hop.to): hop.via for hop in draw(topology).hops}
    places = Places(topology)
    for source in range(topology.world_size):
        for destination in range(topology.world_size):
            links = [topology.links[link] for link in topology.route(source, destination).links]
            cables = sum(places.of(link.source) != places.of(link.destination) for link in links)
            here, there = topology.node(source), topology.node(destination)
            for _ in range(cables):
                here = ways[here, there]
            assert here == there


def test_a_star_has_a_cable_a_host() -> None:
    blueprint = draw(load_topology("netlab-star"))
    assert [space.name for space in blueprint.spaces] == ["host0", "host1", "host2", "host3", "fabric"]
    assert [space.ranks for space in blueprint.spaces] == [(0,), (1,), (2,), (3,), ()]
    assert len({space.address for space in blueprint.spaces}) == 5
    assert [(one.space, other.space) for one, other in blueprint.cables] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    # Each host reaches three others over the switch, which reaches all four.
    assert len(blueprint.hops) == 4 * 3 + 4


def test_ranks_of_a_host_share_its_card() -> None:
    blueprint = draw(load_topology("netlab-pairs"))
    assert [space.ranks for space in blueprint.spaces] == [(0, 1), (2, 3), ()]
    assert len(blueprint.cables) == 2


def test_each_direction_has_its_rate() -> None:
    blueprint = draw(load_topology("netlab-slow-link"))
    rates = [(one.rate, other.rate) for one, other in blueprint.cables]
    full = parse_bandwidth("50 Mb/s")
    assert rates == [(full, full), (full, full), (full / 2, full), (full, full)]
    assert "rate 3125000bps" in shaping(blueprint, 2, delayed=False)
    assert "rate 3125000bps" not in shaping(blueprint, 4, delayed=False)


def test_delays_are_netems() -> None:
    blueprint = draw(load_topology("netlab-star"))
    assert "netem" not in shaping(blueprint, 0, delayed=False)
    assert "parent 1:1 handle 10: netem delay 50us" in shaping(blueprint, 0, delayed=True)


def test_hosts_have_one_address_and_a_route_to_each_other() -> None:
    lines = addressing(draw(load_topology("netlab-ring")), 0).splitlines()
    assert [line.split()[2] for line in lines if line.startswith("address")] == ["198.18.0.1/32"]
    assert sum(line.startswith("route") for line in lines) == 3


def test_a_blueprint_survives_its_file() -> None:
    blueprint = draw(load_topology("netlab-two-switches"))
    assert Blueprint.from_json(loads(dumps(asdict(blueprint)))) == blueprint


def test_what_processes_see_is_payload_and_half_a_message_at_each_end() -> None:
    topology = load_topology("netlab-star")
    wire = Wire(latency=400e-6, rate=5.9e6, expected=5.978e6)
    plain = seen(topology, lab_of("netlab-star"), wire)
    route = plain.route(0, 3)
    assert plain.bottleneck(route) == pytest.approx(6.25e6 * 1448 / 1514)
    assert route.latency == pytest.approx(400e-6)
    # Where frames are held back, what was measured contains the delay, which is not counted twice.
    delayed = seen(topology, lab_of("netlab-star", delayed=True), wire)
    assert delayed.route(0, 3).latency == pytest.approx(400e-6)
    assert delayed.links[0].latency == pytest.approx(parse_seconds("50 us") + (400e-6 - 100e-6) / 2)


def test_links_inside_a_host_stay_as_they_are() -> None:
    seen_from = seen(load_topology("netlab-pairs"), lab_of("netlab-pairs"), Wire(latency=1e-4, rate=1.0, expected=1.0))
    assert seen_from.bottleneck(seen_from.route(0, 1)) == 1.2e9
    assert seen_from.bottleneck(seen_from.route(0, 2)) == pytest.approx(6.25e6 * GOODPUT)


@pytest.mark.parametrize(
    ("topology", "settings", "message"),
    [
        ("local-cpu", [], "has 1, and a netlab joins 2 to 249"),
        ("dgx-a100", ["topology.nodes=2"], "depending on the rank; a host of a netlab forwards by destination alone"),
    ],
)
def test_what_cannot_be_built_is_refused(topology: str, settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw(load_topology(topology, settings))
