"""The keys `collectives:` and `reduces:`."""

from collections.abc import Callable

import pytest

from simulator.errors import InputError
from simulator.topology import Topology

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
    assert topology.sources["protocol ring LL"] == "lab"
    assert ring.covers("all_reduce", 4, 1)
    assert not ring.covers("all_reduce", 2, 1)
    assert not ring.covers("all_reduce", 8, 2)


def test_switches_that_sum(built: Build) -> None:
    topology = built(NODE)
    assert topology.reduces("node0/switch")
    assert not topology.reduces("node0/device0")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NODE.replace("reduces: [switch]", "reduces: [swich]"), "there are: switch"),
        (NODE + "collectives: {choice: {all_reduce: rng}}\n", "topology.collectives.choice"),
        (NODE + f"collectives: {{protocols: [{RING.replace('25%', '125%')}]}}\n", "too much"),
        (NODE + f"collectives: {{protocols: [{RING.replace('3 us', '3')}]}}\n", "has no unit"),
    ],
)
def test_mistakes_are_named(built: Build, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        built(text)
