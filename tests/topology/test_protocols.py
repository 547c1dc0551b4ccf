"""The keys `collectives:` and `reduces:`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.errors import InputError
from simulator.topology import Topology, lending
from simulator.topology.protocols import Collectives, Protocol

Build = Callable[..., Topology]
NODE = """\
node:
  device: gpu
  count: 2
  switches: [switch]
  reduces: [switch]
  links:
    - {between: [device, switch], bandwidth: 20 GB/s, latency: 1 us, source: made up}
"""
COSTS = "overhead: 3 us, latency: 150%, efficiency: 25%, source: lab"
RING = f"{{algorithm: ring, name: LL, scope: node, min_ranks: 4, {COSTS}}}"


def test_a_protocol_is_read(built: Build) -> None:
    topology = built(NODE + f"collectives:\n  choice: {{all_gather: ring}}\n  protocols:\n    - {RING}\n")
    (ring,) = topology.collectives.protocols
    assert (ring.overhead, ring.latency, ring.efficiency) == pytest.approx((3e-6, 1.5, 0.25))
    assert topology.collectives.choice == {"all_gather": "ring"}
    assert topology.sources["collectives within a node"] == "lab"
    assert ring.covers("all_reduce", 4, 1)
    assert not ring.covers("all_reduce", 2, 1)
    assert not ring.covers("all_reduce", 8, 2)


def test_protocols_are_taken_over_where_there_are_no_own_ones(built: Build, shipped: Build) -> None:
    """Rings within the node are the lab's; everything else is dgx-h100's and says so."""
    topology = built(NODE + f"collectives:\n  from: dgx-h100\n  protocols:\n    - {RING}\n")
    lent = shipped("dgx-h100").collectives.protocols
    mine, *others = topology.collectives.protocols
    assert mine.source == "lab"
    assert [(each.algorithm, each.name, each.scope, each.overhead) for each in others] == [
        (each.algorithm, each.name, each.scope, each.overhead)
        for each in lent
        if (each.algorithm, each.scope) != ("ring", "node")
    ]
    assert all(each.source.startswith("taken over from dgx-h100: fitted on") for each in others)
    within = topology.sources["collectives within a node"].splitlines()
    assert within[0] == "ring: lab"
    assert within[1].startswith("direct, in_network, tree: taken over from dgx-h100: ")
    assert "collectives between nodes" not in topology.sources


def test_a_lender_borrows_in_turn(shipped: Build) -> None:
    topology = shipped("perlmutter", {"nodes": "2"})
    within, between = (topology.sources[f"collectives {where}"] for where in ("within a node", "between nodes"))
    assert "direct, ring, tree: taken over from dgx-a100: fitted on" in within
    assert between.startswith("taken over from dgx-a100: taken over from dgx-h100: fitted on")


def test_protocols_of_any_scope_are_taken_over_for_the_scope_that_is_free() -> None:
    both = Protocol(algorithm="ring", name="Simple", source="lender")
    own = Protocol(algorithm="ring", name="LL", scope="node", source="lab")
    found = Collectives(protocols=(own,), choice={"all_reduce": "tree"}).above(
        Collectives(protocols=(both,), choice={"all_reduce": "ring", "broadcast": "ring"}), "box"
    )
    assert [(each.name, each.scope) for each in found.protocols] == [("LL", "node"), ("Simple", "cluster")]
    assert found.choice == {"all_reduce": "tree", "broadcast": "ring"}


def test_lenders_in_a_circle(built: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, lender in (("one", "other"), ("other", "one")):
        (tmp_path / f"{name}.yaml").write_text(f"collectives: {{from: {lender}}}\n")
    monkeypatch.setattr(lending, "preset_path", lambda kind, name: tmp_path / f"{name}.yaml")
    with pytest.raises(InputError, match="one, which takes over from other, which takes over from one: nobody has"):
        built(NODE + "collectives: {from: one}\n")


def test_switches_that_sum(built: Build) -> None:
    topology = built(NODE)
    assert topology.reduces("node0/switch")
    assert not topology.reduces("node0/device0")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NODE.replace("reduces: [switch]", "reduces: [swich]"), "there are: switch"),
        (NODE + "collectives: {choice: {all_reduce: rng}}\n", "topology.collectives.choice"),
        (
            NODE + "collectives: {from: dgx-h10}\n",
            'lab.yaml:11:15: topology.collectives.from: no preset is called "dgx-h10"',
        ),
        (NODE + "collectives: {from: tpu-v5p}\n", '"tpu-v5p" has no protocols to take over; name a machine'),
        (NODE + f"collectives: {{protocols: [{RING.replace('25%', '125%')}]}}\n", "too much"),
        (NODE + f"collectives: {{protocols: [{RING.replace('3 us', '3')}]}}\n", "has no unit"),
    ],
)
def test_mistakes_are_named(built: Build, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        built(text)
