"""Slurm's topology files: hosts under switches; what a host is comes from a topology."""

from collections.abc import Callable

import pytest

from simulator.topology import Topology
from simulator.topology.importers.hostlist import MAX_HOSTS, expand_hostlist
from simulator.units import parse_bandwidth

Import = Callable[..., Topology]
Refused = Callable[..., str]
CARD = parse_bandwidth("200 Gb/s")


def way(topology: Topology, src: int, dst: int) -> list[str]:
    return [topology.links[i].destination for i in topology.route(src, dst).links]


def test_a_tree_of_switches(imported: Import) -> None:
    topology = imported("slurm", "topology.conf", node="dgx-a100")
    assert (topology.world_size, topology.num_nodes, topology.devices_per_node) == (6 * 8, 6, 8)
    assert topology.node(47) == 5
    assert way(topology, 0, 7) == ["dev0/nvswitch", "dev0/device7"]
    assert way(topology, 0, 8) == ["s0", "dev1/device0"]
    assert way(topology, 0, 47) == ["s0", "s3", "s2", "dev5/device7"]
    links = {link.name: link.bandwidth for link in topology.links}
    assert links["s0->s3"] == 16 * CARD  # two hosts of eight cards: nothing is oversubscribed
    assert len(links) == 2 * (48 + 48 + 3)


def test_oversubscription_narrows_what_goes_up(imported: Import) -> None:
    topology = imported("slurm", "topology.conf", node="dgx-a100", oversubscription=4.0)
    assert {link.name: link.bandwidth for link in topology.links}["s0->s3"] == 4 * CARD
    assert "Oversubscription 4:1" in topology.description


def test_one_switch_is_a_template_of_any_size(imported: Import) -> None:
    topology = imported("slurm", "topology-one.conf", node="dgx-h100")
    assert (topology.world_size, topology.num_nodes) == (1024, 128)
    assert way(topology, 0, 1016) == ["fabric", "node127/device0"]


@pytest.mark.parametrize("file", ["topology.yaml", "topology-block.yaml"])
def test_yaml_trees_and_blocks(file: str, imported: Import) -> None:
    topology = imported("slurm", file, node="two-node-ethernet")
    assert topology.world_size == 4 * 4
    top = "sw_root" if file == "topology.yaml" else "root"
    leaves = ("s1", "s2") if file == "topology.yaml" else ("b1", "b2")
    assert way(topology, 0, 15) == ["node01/pcie", leaves[0], top, leaves[1], "node04/pcie", "node04/device3"]
    assert topology.bottleneck(topology.route(0, 15)) == parse_bandwidth("25 Gb/s")


def test_spines_over_the_same_leaves_are_one_trunk(imported: Import, tmp_path: object) -> None:
    path = tmp_path / "spines.conf"  # type: ignore[operator]
    path.write_text(
        "SwitchName=a Nodes=n0\nSwitchName=b Nodes=n1\nSwitchName=x Switches=a,b\nSwitchName=y \\\n Switches=a,b\n"
    )
    links = {link.name: link.bandwidth for link in imported("slurm", path, node="dgx-a100").links}
    assert links["a->x"] == 8 * CARD
    assert not [name for name in links if "y" in name]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ["a"]),
        ("tux[0-2,12,18-19]", ["tux0", "tux1", "tux2", "tux12", "tux18", "tux19"]),
        ("n[08-10],x", ["n08", "n09", "n10", "x"]),
        ("r[0-1]n[1,3]-ib", ["r0n1-ib", "r0n3-ib", "r1n1-ib", "r1n3-ib"]),
    ],
)
def test_host_lists(text: str, names: list[str]) -> None:
    assert expand_hostlist(text) == names


@pytest.mark.parametrize(
    "text", ["", "a,,b", "n[", "n[1-", "n[2-1]", "n[]", "n[a]", "n]", f"n[0-{MAX_HOSTS}]", "a[0-999]b[0-999]"]
)
def test_wrong_host_lists(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        expand_hostlist(text)


@pytest.mark.parametrize(
    ("text", "facts", "message"),
    [
        ("SwitchName=a Nodes=n0\n", {}, "given: Slurm names hosts, not what is in them; write --node"),
        ("SwitchName=a Nodes=n0\n", {"node": "pcie-box"}, "has no node with network cards"),
        ("SwitchName=a Nodes=n0\n", {"node": "dgx-a10"}, "did you mean dgx-a100?"),
        ("\nNodeName=a\n", {"node": "dgx-a100"}, 'given:2:1: "NodeName=a" is not read'),
        ("SwitchName=a Nodes=n[0-\n", {"node": "dgx-a100"}, "given:1:1: "),
        ("SwitchName=a Nodes=n0\nSwitchName=a Nodes=n1\n", {"node": "dgx-a100"}, "switch a is there twice"),
        (
            "SwitchName=a Nodes=n0\nSwitchName=b Nodes=n0\n",
            {"node": "dgx-a100"},
            "given:2:1: host n0 is under a already",
        ),
        ("SwitchName=a Switches=b\n", {"node": "dgx-a100"}, "given:1:1: switch b is not described"),
        ("SwitchName=a Switches=b\nSwitchName=b Switches=a Nodes=n0\n", {"node": "dgx-a100"}, "is below itself"),
        ("# nothing\n", {"node": "dgx-a100"}, "given: names no hosts"),
        (
            "SwitchName=a Nodes=n[0-999]\nSwitchName=b Nodes=m\n",
            {"node": "dgx-a100"},
            "1,001 hosts x 16 cables = 16,016",
        ),
        ("- topology: x\n  flat: true\n", {"node": "dgx-a100"}, "given:1:3: is neither tree nor block"),
        ("- topology: x\n  tree: {switches: [{nodes: a}]}\n", {"node": "dgx-a100"}, "switch: is missing"),
        (
            "- {topology: x, flat: true}\n- {topology: y, flat: true}\n",
            {"node": "dgx-a100"},
            "mark one with cluster_default",
        ),
    ],
)
def test_what_is_refused(text: str, facts: dict[str, object], message: str, refused: Refused) -> None:
    assert message in refused("slurm", text, **facts)
