"""Fabrics: every pair of ranks is joined, by the way that one would draw by hand, and halves are as wide as counted."""

from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import InputError, Problems
from simulator.topology import Topology, TopologySchema, build_topology, properties
from tests.topology.routes import check_routes

Build = Callable[..., Topology]
LINK = {"bandwidth": "10 GB/s", "latency": "1 us", "source": "made up"}
SPINE = {"latency": "1 us", "source": "made up"}
CARD = 10e9


def spec(fabric: dict[str, object], nodes: int, count: int = 2, **others: object) -> dict[str, object]:
    """Nodes whose devices hang on one switch; a card each, or the switch itself on the cables of a direct fabric."""
    direct = fabric["kind"] in ("ring", "torus", "full_mesh")
    node: dict[str, object] = {"device": "gpu", "count": count, "switches": ["sw"]}
    node["links"] = [{"between": ["device", "sw"], **LINK, "bandwidth": "90 GB/s"}]
    fabric = {**(LINK if direct else SPINE), **({"at": "sw"} if direct else {}), **fabric}
    if not direct:
        node["uplinks"] = [{"from": "device", **LINK}]
    gpu = {"memory": "1 GB", "memory_bandwidth": "1 GB/s", "peak": {"fp32": "1 TFLOP/s"}, "launch_overhead": "1 us"}
    devices = {"gpu": {**gpu, "source": "x"}}
    return {"name": "lab", "devices": devices, "node": node, "nodes": nodes, "fabric": fabric, **others}


def build(*arguments: object, **others: object) -> Topology:
    problems = Problems()
    schema = TopologySchema.model_validate(spec(*arguments, **others))  # type: ignore[arg-type]
    topology = build_topology(schema, problems)
    problems.raise_if_any()
    assert topology is not None
    return topology


def way(topology: Topology, src: int, dst: int) -> list[str]:
    links = [topology.links[i] for i in topology.route(src, dst).links]
    return [link.source for link in links[:1]] + [link.destination for link in links]


TREE = {"kind": "fat_tree", "nodes_per_leaf": 2, "oversubscription": 2}
PODS = {"kind": "fat_tree", "nodes_per_leaf": 2, "leaves_per_pod": 2, "pod_oversubscription": 4}
RAILS = {"kind": "rail_optimized", "nodes_per_pod": 2, "oversubscription": 2}
DRAGONFLY = {
    "kind": "dragonfly",
    "nodes_per_router": 2,
    "routers_per_group": 2,
    "bandwidth": "7 GB/s",
    "global_bandwidth": "5 GB/s",
    "global_latency": "3 us",
}
HASH = {"ecmp": {"hash": 3}}


def test_a_fat_tree_goes_up_as_far_as_it_must() -> None:
    topology = build(TREE, 4)
    assert way(topology, 0, 2) == ["node0/device0", "leaf0", "node1/device0"]
    assert way(topology, 0, 7) == ["node0/device0", "leaf0", "spine", "leaf1", "node3/device1"]
    # A leaf takes 2 nodes x 2 cards x 10 GB/s from below and sends half of it up.
    assert topology.links[topology.route(0, 7).links[1]].bandwidth == 4 * CARD / 2
    # Card 1 us, leaf 1 us, spine 1 us, leaf 1 us and card 1 us.
    assert topology.route(0, 7).latency == pytest.approx(5e-6)
    assert topology.route(0, 2).latency == pytest.approx(3e-6)


def test_pods_have_cores_above_them() -> None:
    topology = build(PODS, 8)
    assert way(topology, 0, 4) == ["node0/device0", "leaf0", "pod0/spine", "leaf1", "node2/device0"]
    assert way(topology, 0, 15)[1:-1] == ["leaf0", "pod0/spine", "core", "pod1/spine", "leaf3"]
    over = topology.links[topology.route(0, 15).links[2]]
    assert over.bandwidth == 2 * 4 * CARD / 4
    assert properties.bisection(topology) == over.bandwidth
    assert properties.oversubscription(topology) == pytest.approx(4)


def test_hashing_keeps_a_pair_on_one_spine_and_spreads_pairs() -> None:
    topology = build({**TREE, "nodes_per_leaf": 8, "spines": 4, **HASH}, 16, 8)
    spines = [way(topology, src, 64 + dst)[2] for src in range(64) for dst in range(64)]
    assert spines == [way(topology, src, 64 + dst)[2] for src in range(64) for dst in range(64)]
    counts = [spines.count(f"spine{k}") for k in range(4)]
    assert sum(counts) == 64 * 64
    assert all(abs(count - 1024) < 150 for count in counts), counts
    other = build({**TREE, "nodes_per_leaf": 8, "spines": 4, "ecmp": {"hash": 4}}, 16, 8)
    assert spines != [way(other, src, 64 + dst)[2] for src in range(64) for dst in range(64)]
    # 64 cards below, half of that above, a quarter of it to each spine.
    assert topology.links[topology.route(0, 64).links[1]].bandwidth == 64 * CARD / 2 / 4


def test_rails_meet_in_their_own_leaf() -> None:
    topology = build(RAILS, 4)
    assert way(topology, 1, 3) == ["node0/device1", "pod0/rail1", "node1/device1"]
    assert way(topology, 0, 3) == ["node0/device0", "pod0/rail0", "spine", "pod0/rail1", "node1/device1"]
    assert way(topology, 0, 4) == ["node0/device0", "pod0/rail0", "spine", "pod1/rail0", "node2/device0"]
    assert topology.links[topology.route(0, 4).links[1]].bandwidth == 2 * CARD / 2


def test_pxn_changes_rails_inside_the_sender_s_node() -> None:
    topology = build({**RAILS, "cross_rail": "pxn"}, 4)
    first = ["node0/device0", "node0/sw", "node0/device1"]
    assert way(topology, 0, 3) == [*first, "pod0/rail1", "node1/device1"]
    assert way(topology, 0, 5) == [*first, "pod0/rail1", "spine", "pod1/rail1", "node2/device1"]
    assert way(topology, 0, 4)[1] == "pod0/rail0"


def test_a_ring_goes_the_short_way_round() -> None:
    topology = build({"kind": "ring"}, 5, 1)
    assert way(topology, 0, 2)[1:-1] == ["node0/sw", "node1/sw", "node2/sw"]
    assert way(topology, 0, 3)[1:-1] == ["node0/sw", "node4/sw", "node3/sw"]
    # Two nodes have one cable between them, not two: its two directions, and those of the cable in each node.
    assert len(build({"kind": "ring"}, 2, 1).links) == 2 + 2 * 2


def test_a_torus_goes_one_dimension_after_the_other() -> None:
    topology = build({"kind": "torus", "dims": [3, 4]}, 12, 1)
    # From (0, 0) to (2, 3): one step back in each dimension.
    assert way(topology, 0, 11)[1:-1] == ["node0/sw", "node8/sw", "node11/sw"]
    mesh = build({"kind": "torus", "dims": [3, 4], "wrap": False}, 12, 1)
    assert way(mesh, 0, 11)[1:-1] == [f"node{k}/sw" for k in (0, 4, 8, 9, 10, 11)]


def test_lone_devices_are_joined_without_a_switch() -> None:
    text = spec({"kind": "torus", "dims": [2, 2, 2]}, 8, 1)
    text["node"] = {"device": "gpu", "count": 1}
    text["fabric"] = {"kind": "torus", "dims": [2, 2, 2], **LINK}
    problems = Problems()
    topology = build_topology(TopologySchema.model_validate(text), problems)
    assert topology is not None
    assert way(topology, 0, 7) == [f"node{k}/device0" for k in (0, 4, 6, 7)]
    # Lines of two have one cable, not two: 12 edges of a cube, both directions.
    assert len(topology.links) == 24


def test_a_dragonfly_takes_at_most_one_global_link() -> None:
    topology = build(DRAGONFLY, 12, 1)  # 3 groups of 2 routers
    assert way(topology, 0, 1) == ["node0/device0", "group0/router0", "node1/device0"]
    assert way(topology, 0, 2)[1:-1] == ["group0/router0", "group0/router1"]
    # The trunk to the next group leaves from router 0 and arrives at the other end of its pair, (0 - 1 - 1) mod 3 = 1.
    assert way(topology, 2, 4)[1:-1] == ["group0/router1", "group0/router0", "group1/router1", "group1/router0"]
    assert topology.route(2, 4).latency == pytest.approx((1 + 1 + 4 + 1 + 2) * 1e-6)
    assert topology.bottleneck(topology.route(2, 4)) == 5e9


def test_parallel_global_links_are_one_trunk_or_hashed() -> None:
    trunk, hashed = build({**DRAGONFLY, "global_links": 4}, 12), build({**DRAGONFLY, "global_links": 4, **HASH}, 12)
    assert trunk.links[trunk.route(0, 8).links[1]].bandwidth == 20e9
    used = {hashed.route(0, dst).links[1] for dst in range(8, 16)}
    assert len(used) > 1
    assert {hashed.links[i].bandwidth for i in used} == {5e9}
    assert len({link.name for link in hashed.links}) == len(hashed.links)


FABRICS = [
    ({"kind": "ring"}, 6),
    ({"kind": "ring"}, 2),
    ({"kind": "full_mesh"}, 6),
    ({"kind": "torus", "dims": [2, 4]}, 8),
    ({"kind": "torus", "dims": [4, 2, 2]}, 16),
    ({"kind": "torus", "dims": [4, 3], "wrap": False}, 12),
    (TREE, 8),
    (PODS, 8),
    (RAILS, 8),
    (DRAGONFLY, 8),
    (DRAGONFLY, 16),
    ({"kind": "switch"}, 6),
]


@pytest.mark.parametrize(("fabric", "nodes"), FABRICS)
def test_bisection_is_the_minimum_cut(fabric: dict[str, object], nodes: int) -> None:
    """The closed forms against a maximum flow between the halves that they cut."""
    topology = build(fabric, nodes, 1)
    dims = fabric.get("dims", [nodes])
    assert isinstance(dims, list)
    longest = dims.index(max(dims))
    coordinate = np.array(np.unravel_index(np.arange(nodes), dims))[longest]
    graph = topology.graph()
    for rank in range(nodes):
        first, name = coordinate[rank] < max(dims) // 2, topology.router.endpoint(rank)
        graph.add_edge(*(("source", name) if first else (name, "sink")))
    flow = nx.maximum_flow_value(graph, "source", "sink", capacity="bandwidth")
    # The devices of this cluster are never the bottleneck of a direct fabric, their 90 GB/s links could be.
    assert properties.bisection(topology) == pytest.approx(flow)


@pytest.mark.parametrize(
    ("fabric", "nodes", "expected"),
    [
        ({"kind": "ring"}, 6, 2 * 10e9),
        ({"kind": "full_mesh"}, 5, 2 * 3 * 10e9),
        ({"kind": "torus", "dims": [4, 4, 4]}, 64, 2 * 16 * 10e9),
        ({"kind": "torus", "dims": [4, 6], "wrap": False}, 24, 4 * 10e9),
        (TREE, 8, 2 * 2 * 2 * CARD / 2),
        (RAILS, 8, 2 * 2 * 2 * CARD / 2),
        (DRAGONFLY, 16, 2 * 2 * 5e9),
        ({"kind": "switch"}, 7, 3 * 2 * CARD),
    ],
)
def test_bisection_by_hand(fabric: dict[str, object], nodes: int, expected: float) -> None:
    assert properties.bisection(build(fabric, nodes)) == pytest.approx(expected)


@st.composite
def clusters(draw: st.DrawFn) -> Topology:
    count, nodes = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    kind = draw(st.sampled_from(["ring", "full_mesh", "torus", "fat_tree", "rail_optimized", "dragonfly", "switch"]))
    small = st.integers(1, 4)
    fabric: dict[str, object] = {"kind": kind}
    ecmp = draw(st.sampled_from([{}, {"ecmp": {"hash": draw(st.integers(0, 9))}}]))
    if kind == "torus":
        dims = draw(st.lists(small, min_size=1, max_size=3))
        fabric, nodes = {**fabric, "dims": dims, "wrap": draw(st.booleans())}, int(np.prod(dims))
    elif kind == "fat_tree":
        pods = draw(st.sampled_from([{}, {"leaves_per_pod": draw(small), "cores": draw(small)}]))
        fabric |= {"nodes_per_leaf": draw(small), "spines": draw(small) + 1, **pods, **ecmp}
    elif kind == "rail_optimized":
        cross = draw(st.sampled_from(["spine", "pxn"]))
        fabric |= {"nodes_per_pod": draw(small), "spines": draw(small) + 1, "cross_rail": cross, **ecmp}
    elif kind == "dragonfly":
        fabric |= {**DRAGONFLY, "nodes_per_router": draw(small), "routers_per_group": draw(small)}
        fabric |= {"global_links": draw(small) + 1, **ecmp}
    return build(fabric, nodes, count)


@settings(max_examples=150, deadline=None)
@given(clusters())
def test_every_pair_is_joined_and_bulk_equals_single(topology: Topology) -> None:
    ranks = np.arange(topology.world_size)
    check_routes(topology, np.repeat(ranks, len(ranks)), np.tile(ranks, len(ranks)))
    names = [link.name for link in topology.links]
    assert len(set(names)) == len(names)
    bandwidths = topology.bandwidths(np.arange(len(names)))
    assert bandwidths.tolist() == [link.bandwidth for link in topology.links]


@settings(max_examples=50, deadline=None)
@given(clusters())
def test_shipped_numbers_do_not_depend_on_the_way_they_are_asked(topology: Topology) -> None:
    classes = topology.links.classes()
    assert sum(count for _, count, _, _ in classes) == len(topology.links)
    for first, count, bandwidth, latency in classes:
        same = [link for link in topology.links if (link.bandwidth, link.latency) == (bandwidth, latency)]
        assert len(same) == count
        assert topology.links[first] in same


def test_a_hundred_thousand_routes() -> None:
    """In 0.05 s: as tables."""
    topology = build({"kind": "rail_optimized", "nodes_per_pod": 32, "spines": 16, **HASH}, 12_800, 8)
    ranks = np.arange(topology.world_size)
    routes = topology.routes(ranks, np.roll(ranks, -8))
    assert len(routes.latencies) == 102_400
    for k in (0, 255, 102_399):
        assert routes.links[routes.indptr[k] : routes.indptr[k + 1]].tolist() == list(
            topology.route(k, (k + 8) % len(ranks)).links
        )


@pytest.mark.parametrize(
    ("fabric", "nodes", "message"),
    [
        ({"kind": "torus", "dims": [2, 3]}, 4, "topology.fabric.dims: 2 x 3 = 6 places for 4 nodes; write nodes: 6"),
        ({"kind": "ring", "at": "swi"}, 4, 'topology.fabric.at: "swi" is no switch of node; did you mean sw?'),
        ({"kind": "ring", "at": None}, 4, "topology.fabric.at: is missing: of 2 devices none forwards"),
        ({**TREE, **HASH}, 4, "topology.fabric.ecmp: a hash chooses among spines, of which there is 1"),
        ({**DRAGONFLY, **HASH}, 4, "topology.fabric.ecmp: a hash chooses among global_links, of which there is 1"),
        ({**TREE, "spines": 10**9, **HASH}, 4, "topology.fabric: has 4000000000 links, more than the 8388608"),
        ({**DRAGONFLY, "routers_per_group": 10**12}, 4, "links, more than the 8388608 there may be"),
        ({"kind": "full_mesh"}, 100_000, "topology.fabric: has 9999900000 links"),
        ({"kind": "torus", "dims": [1000, 1000, 1000]}, 10**9, "1000000000 nodes x 2 devices = 2000000000 ranks"),
    ],
)
def test_what_is_refused(fabric: dict[str, object], nodes: int, message: str) -> None:
    with pytest.raises(InputError) as raised:
        build(fabric, nodes)
    assert message in str(raised.value)


def test_cards_do_not_fit_a_fabric_without_switches(built: Build) -> None:
    link = "bandwidth: 1 GB/s, latency: 1 us, source: x"
    text = (
        f"node: {{device: gpu, count: 1, uplinks: [{{from: device, {link}}}]}}\n"
        f"nodes: 4\nfabric: {{kind: ring, {link}}}\n"
    )
    with pytest.raises(InputError, match="network cards plug into switches, and this fabric has none"):
        built(text)
