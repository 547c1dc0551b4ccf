"""Templates and graphs: what they expand to, which way a message goes, and what is refused."""

import pickle
from collections.abc import Callable

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InputError, Problems
from simulator.topology import Topology, TopologySchema, build_topology
from simulator.topology.link import Link
from simulator.topology.links import Ends, Links, Section
from simulator.topology.routes import Paths, unreached
from simulator.topology.wiring import directed

Build = Callable[..., Topology]
LINK = "bandwidth: 10 GB/s, latency: 1 us, source: made up"
FABRIC = "fabric: {kind: switch, latency: 1 us, source: made up}"


def way(topology: Topology, src: int, dst: int) -> list[str]:
    return [topology.links[i].name for i in topology.route(src, dst).links]


def template(links: str = "", uplinks: str = "", count: int = 2, switches: str = "sw", rest: str = "") -> str:
    cables = "".join(f"    - {{between: [{ends}], {LINK}}}\n" for ends in links.split("; ") if ends)
    cards = "".join(f"    - {{from: {origin}, {LINK}}}\n" for origin in uplinks.split("; ") if origin)
    return (
        f"node:\n  device: gpu\n  count: {count}\n  switches: [{switches}]\n"
        + (f"  links:\n{cables}" if cables else "")
        + (f"  uplinks:\n{cards}" if cards else "")
        + rest
    )


def graph(links: str, count: int = 3, switches: str = "", rest: str = "") -> str:
    cables = "".join(f"    - {{between: [{ends}], {LINK}}}\n" for ends in links.split("; ") if ends)
    devices = ", ".join(f"g{i}: gpu" for i in range(count))
    return f"graph:\n  devices: {{{devices}}}\n  switches: [{switches}]\n{rest}" + (
        f"  links:\n{cables}" if cables else ""
    )


def refusal(built: Build, text: str) -> str:
    with pytest.raises(InputError) as raised:
        built(text)
    return str(raised.value)


def test_a_cable_is_two_links(built: Build) -> None:
    topology = built(graph("g0, g1", count=2))
    assert [(link.source, link.destination) for link in topology.links] == [("g0", "g1"), ("g1", "g0")]
    assert way(topology, 1, 0) == ["g1->g0"]
    assert topology.route(1, 1).links == ()
    assert topology.route(1, 1).latency == 0
    assert topology.bottleneck(topology.route(1, 1)) == float("inf")


def test_device_means_each_device(built: Build) -> None:
    assert len(built(template("device, sw", count=4)).links) == 2 * 4
    assert len(built(template("device, device", count=4)).links) == 2 * 6
    assert len(built(template("device0, device; device1, device2", count=3)).links) == 2 * 3


def test_one_device_needs_no_links(built: Build) -> None:
    assert built(template("device, device", count=1)).world_size == 1
    assert built(graph("", count=1)).route(0, 0).links == ()


def test_the_fewest_links_win(built: Build) -> None:
    topology = built(template("device, sw; device0, device1", count=3))
    assert way(topology, 0, 1) == ["node0/device0->node0/device1"]
    assert way(topology, 0, 2) == ["node0/device0->node0/sw", "node0/sw->node0/device2"]


def test_devices_do_not_forward_but_switches_do(built: Build) -> None:
    assert way(built(graph("g0, s; s, t; t, g1; t, g2", switches="s, t")), 0, 1) == ["g0->s", "s->t", "t->g1"]
    assert way(built(graph("g0, g1; g1, g2", rest="  transit: true\n")), 0, 2) == ["g0->g1", "g1->g2"]
    assert "no route from g0 to g2" in refusal(built, graph("g0, g1; g1, g2"))


def test_devices_take_turns_at_equally_near_cards(built: Build) -> None:
    topology = built(template("device, sw", "sw; sw", count=3, rest=f"nodes: 2\n{FABRIC}\n"))
    assert [way(topology, rank, 3)[1] for rank in range(3)] == [
        "node0/sw->fabric",
        "node0/sw->fabric#1",
        "node0/sw->fabric",
    ]
    assert way(topology, 3, 1)[2:] == ["fabric->node0/sw#1", "node0/sw->node0/device1"]
    # Both cards of the switch are one edge of the graph, as wide as both.
    assert topology.graph()["node0/sw"]["fabric"]["bandwidth"] == 20e9


def test_the_nearest_card_wins(built: Build) -> None:
    topology = built(
        template(
            "device0, near; device1, far; far, near", "far; near", switches="near, far", rest=f"nodes: 2\n{FABRIC}"
        )
    )
    assert "node0/near->fabric" in way(topology, 0, 2)
    assert "node0/far->fabric" in way(topology, 1, 2)


def test_devices_of_one_node_may_meet_in_the_fabric_only(built: Build) -> None:
    topology = built(template("", "device", rest=FABRIC))
    assert way(topology, 0, 1) == ["node0/device0->fabric", "fabric->node0/device1"]


def test_a_rank_that_is_not_there(built: Build) -> None:
    topology = built(graph("g0, g1", count=2))
    for src, dst in [(-1, 0), (0, 2)]:
        with pytest.raises(ValueError, match=r"rank (-1|2) does not exist: lab has ranks 0 to 1"):
            topology.route(src, dst)


def test_a_topology_survives_pickling(built: Build) -> None:
    topology = built(template("device, sw", "device", rest=f"nodes: 3\n{FABRIC}"))
    again = pickle.loads(pickle.dumps(topology))
    assert again.route(0, 5) == topology.route(0, 5)
    assert list(again.links) == list(topology.links)


def test_slow_devices(built: Build) -> None:
    device = built(graph("g0, g1", count=2), {"devices.gpu.speed": "80%"}).device(0)
    assert device.speed == 0.8
    assert "default" in device.efficiency_source


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "topology: has neither node nor graph"),
        (template("device, sw") + graph("g0, g1", 2), "topology.graph: stands beside node"),
        (
            template("device, sw").replace("gpu", "gpo"),
            'topology.node.device: "gpo" is not under devices; did you mean gpu?',
        ),
        (graph("g0, g1", 2).replace("g1: gpu", "g1: gpo"), 'topology.graph.devices.g1: "gpo" is not under devices'),
        (template("device, swi"), 'topology.node.links.0.between: "swi" is no device or switch here; did you mean sw?'),
        (template("device, sw; device2, sw"), 'topology.node.links.1.between: "device2" is no device or switch here'),
        (template("sw, sw"), "topology.node.links.0.between: joins sw to itself"),
        (template("device, sw; device0, sw"), "links.1.between: joins device0 and sw, as links.0 does"),
        (graph("g0, g1; g1, g0", 2), "topology.graph.links.1.between: joins g1 and g0, as links.0 does"),
        (template("device, sw", switches="sw, sw"), 'topology.node.switches.1: "sw" is there twice'),
        (template("device, sw", switches="sw, device"), 'switches.1: "device" already means something in a node'),
        (template("device, sw", switches="sw, fabric"), 'switches.1: "fabric" already means something in a node'),
        (graph("g0, g1", 2, switches="g0"), 'topology.graph.switches.0: "g0" names something else already'),
        (template("device, sw", rest="nodes: 2"), "topology.fabric: is missing, and nothing else joins the 2 nodes"),
        (
            template("device, sw", rest="nodes: 2"),
            "topology.node.uplinks: is missing, and nothing else joins the 2 nodes",
        ),
        (template("device, sw", "nic"), 'uplinks.0.from: "nic" is no device or switch of the node'),
        (template("", "device0", rest=f"nodes: 2\n{FABRIC}"), "topology.node.uplinks: device1 cannot reach the fabric"),
        (template("device0, sw"), "topology.node.links: no route from device0 to device1"),
        (graph("g0, g1"), "topology.graph.links: no route from g0 to g2; join them"),
        (graph("g0, g1", 2) + FABRIC, "topology.fabric: belongs to a node template"),
        (graph("g0, g1", 2) + "nodes: 2", "topology.nodes: belongs to a node template"),
        (template("device, sw", count=2000), "topology.node.count: 2000 is more than the 1024 a node may have"),
        (
            template("device, sw", "device", rest=f"nodes: 1000000\n{FABRIC}"),
            "topology.nodes: 1000000 nodes x 2 devices",
        ),
        (template("device, sw").replace("10 GB/s", "0 GB/s"), "topology.node.links.0.bandwidth"),
        (template("device, sw").replace("1 us", "-1 us"), "topology.node.links.0.latency"),
        (template("device, sw").replace(", source: made up", ""), "topology.node.links.0.source: is missing"),
        (template("device, sw").replace("bandwidth", "bandwith"), "did you mean bandwidth?"),
        (template("device, sw").replace("10 GB/s", "10"), "topology.node.links.0.bandwidth"),
    ],
)
def test_what_is_refused(built: Build, text: str, message: str) -> None:
    assert message in refusal(built, text)


def test_all_problems_are_reported_at_once(built: Build) -> None:
    text = refusal(built, template("device, swi; device, sw; device0, sw", switches="sw, fabric", rest="nodes: 2"))
    assert text.endswith("5 errors")


def test_links_are_a_sequence() -> None:
    def ends(index: int) -> Ends:
        return Ends(f"a{index}", "b")

    links = Links([Section(0, [(1.0, 0.0)], ends), Section(3, [(1.0, 0.0), (2.0, 0.5)], ends)])
    assert len(links) == 6
    assert links[-1] == links[5] == list(links)[5]
    assert links[5] is links[5]
    assert [link.name for link in links[2:4]] == ["a2->b", "a3->b"]
    assert (links[3].bandwidth, links[3].latency) == (2.0, 0.5)
    with pytest.raises(IndexError):
        links[6]


@st.composite
def cables(draw: st.DrawFn) -> tuple[list[str], list[str], list[Link]]:
    devices = [f"d{i}" for i in range(draw(st.integers(1, 5)))]
    switches = [f"s{i}" for i in range(draw(st.integers(0, 4)))]
    ends = st.sampled_from(devices + switches)
    pairs = {frozenset(pair) for pair in draw(st.lists(st.tuples(ends, ends), max_size=16))}
    there = [directed(*sorted(pair), 1.0, 0.0) for pair in pairs if len(pair) == 2]
    return devices, switches, there + [directed(link.destination, link.source, 1.0, 0.0) for link in there]


@given(cables())
def test_paths_are_shortest_and_gaps_are_found(drawn: tuple[list[str], list[str], list[Link]]) -> None:
    devices, switches, links = drawn
    paths = Paths(links, closed=set(devices))
    whole = nx.DiGraph((link.source, link.destination) for link in links)
    gaps = set()
    for src in devices:
        for dst in devices:
            found = paths.find(src, dst)
            open_graph = whole.subgraph({*switches, src, dst})
            reachable = src == dst or (src in open_graph and dst in open_graph and nx.has_path(open_graph, src, dst))
            assert (found is not None) == reachable
            if found is None:
                gaps.add((src, dst))
            elif src != dst:
                assert len(found) == nx.shortest_path_length(open_graph, src, dst)
    gap = unreached(devices, links, closed=set(devices))
    assert (gap is None) == (not gaps)
    if gap is not None:
        assert all((gap[0], dst) in gaps for dst in gap[1])


@given(st.integers(1, 6), st.integers(1, 5), st.data())
def test_template_routes_equal_the_graph_s(count: int, nodes: int, data: st.DataObject) -> None:
    spec = {
        "name": "lab",
        "devices": {
            "gpu": {
                "memory": "1 GB",
                "memory_bandwidth": "1 GB/s",
                "peak": {"fp32": "1 TFLOP/s"},
                "launch_overhead": "1 us",
                "source": "x",
            }
        },
        "node": {
            "device": "gpu",
            "count": count,
            "switches": ["sw"],
            "links": [{"between": ["device", "sw"], "bandwidth": "1 GB/s", "latency": "1 us", "source": "x"}],
            "uplinks": [
                {
                    "from": data.draw(st.sampled_from(["device", "sw"])),
                    "bandwidth": "1 GB/s",
                    "latency": "1 us",
                    "source": "x",
                }
            ],
        },
        "nodes": nodes,
        "fabric": {"kind": "switch", "latency": "1 us", "source": "x"},
    }
    problems = Problems()
    topology = build_topology(TopologySchema.model_validate(spec), problems)
    problems.raise_if_any()
    assert topology is not None
    links = list(topology.links)
    ends = [topology.router.endpoint(rank) for rank in range(topology.world_size)]
    paths = Paths(links, closed=set(ends))
    for src in range(topology.world_size):
        for dst in range(topology.world_size):
            # Two links within a node also lead over two cards; a template stays inside.
            assert len(topology.route(src, dst).links) == len(paths.find(ends[src], ends[dst]) or ())


def hosts(text: str) -> str:
    return f"  nodes: {{{text}}}\n"


def test_a_graph_says_which_host_holds_a_device(built: Build) -> None:
    star = "g0, sw; g1, sw; g2, sw; g3, sw; g4, sw"
    topology = built(graph(star, count=5, switches="sw", rest=hosts("a: [g0, g1], b: [g2, g3], c: [g4]")))
    assert topology.num_nodes == 3
    assert [topology.node(rank) for rank in range(5)] == [0, 0, 1, 1, 2]
    assert [topology.local_rank(rank) for rank in range(5)] == [0, 1, 0, 1, 0]
    assert [topology.local_world_size(rank) for rank in range(5)] == [2, 2, 2, 2, 1]
    assert [host.index for host in topology.hosts] == [0, 1, 2]
    assert built(graph(star, count=5, switches="sw")).num_nodes == 1


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("a: [g0, g1], b: [g3]", 'graph.nodes.b.0: "g3" is no device'),
        ("a: [g0, g1]", "graph.nodes: g2 is in no node"),
        ("a: [g0, g1], b: [g2, g1]", "graph.nodes: g1 is there twice"),
        ("a: [g0, g2], b: [g1]", "graph.nodes: g2 stands where graph.devices has g1"),
        ("a: [g0, g1, g2], b: []", "graph.nodes.b"),
    ],
)
def test_every_device_of_a_graph_is_on_one_host(nodes: str, message: str, built: Build) -> None:
    assert message in refusal(built, graph("g0, g1; g1, g2; g2, g0", rest=hosts(nodes)))
