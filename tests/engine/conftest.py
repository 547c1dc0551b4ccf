"""A laboratory: small clusters and plans, given as plain values instead of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import strategies as st

from simulator.cost import Calibration
from simulator.engine import simulate
from simulator.inputs.yaml_source import Document
from simulator.load import Inputs, build
from simulator.results import Timeline

MLP = {"name": "mlp", "family": "mlp", "in_features": 64, "hidden_sizes": [64] * 8, "num_classes": 8}
SMALL_GPT = {
    "name": "small-gpt",
    "family": "gpt",
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "vocab_size": 96,
    "sequence_length": 32,
}

Times = dict[tuple[int, str], tuple[float, float, float]]


RINGS = {"collectives": {"choice": {"all_reduce": "ring"}}}


class Lab:
    """Builds, compiles and simulates."""

    rings: Mapping[str, Any] = RINGS
    """Of a topology whose sums go around rings whatever their size: all members look alike, as in trees they do not."""
    mlp: Mapping[str, Any] = MLP
    gpt: Mapping[str, Any] = SMALL_GPT

    def device(self, peak: str = "100 TFLOP/s", **changes: Any) -> dict[str, Any]:
        gpu = {"memory": "80 GiB", "memory_bandwidth": "1 TB/s", "launch_overhead": "5 us", "source": "made up"}
        return {**gpu, "peak": {"fp32": peak, "bf16": peak}, **changes}

    def link(self, one: str, other: str, bandwidth: str = "20 GB/s", latency: str = "2 us") -> dict[str, Any]:
        return {"between": [one, other], "bandwidth": bandwidth, "latency": latency, "source": "made up"}

    def free_link(self, one: str, other: str) -> dict[str, Any]:
        """A link on which messages take no time that a float could show."""
        return self.link(one, other, "1000 EB/s", "0 s")

    def box(self, count: int, link: Mapping[str, Any] | None = None, **node: Any) -> dict[str, Any]:
        """One node whose devices hang on one switch."""
        cable = link or self.link("device", "switch")
        return {
            "name": "box",
            "devices": {"gpu": self.device()},
            "node": {"device": "gpu", "count": count, "switches": ["switch"], "links": [cable], **node},
        }

    def graph(self, kinds: list[str], links: list[Mapping[str, Any]], switches: int = 0) -> dict[str, Any]:
        """Devices d0, d1, ... of the kinds ``fast`` and ``slow``, switches s0, s1, ... and cables by name."""
        return {
            "name": "graph",
            "devices": {"fast": self.device(), "slow": self.device(speed="70%")},
            "graph": {
                "devices": {f"d{index}": kind for index, kind in enumerate(kinds)},
                "switches": [f"s{index}" for index in range(switches)],
                "links": links,
            },
        }

    def compile(self, model: Mapping[str, Any], topology: Mapping[str, Any], **plan: Any) -> Inputs:
        """Check and compile; keyword arguments are keys of the plan."""
        documents = {"model": model, "topology": topology, "plan": {"name": "plan", "microbatch_size": 2, **plan}}
        return build([Document(name=name, path=name, data=dict(data)) for name, data in documents.items()])

    def run(self, inputs: Inputs, calibration: Calibration | None = None, *, folding: bool = True) -> Timeline:
        """Simulate one step."""
        timeline, _ = simulate(inputs.program, inputs.topology, calibration or Calibration(), folding=folding)
        return timeline

    def pods(self) -> st.SearchStrategy[tuple[dict[str, Any], dict[str, Any]]]:
        """Topologies and plans for ``compile``."""
        return _pods(self)

    def machines(self) -> st.SearchStrategy[tuple[dict[str, Any], dict[str, Any]]]:
        """Topologies of nodes, with network cards and a communication library, and plans for ``compile``."""
        return _machines(self)

    def times(self, timeline: Timeline) -> Times:
        """(rank, instruction) -> issued, start, end, of all ranks."""
        return {
            (member, str(span.instruction)): (span.issued, span.start, span.end)
            for rank, members in timeline.ranks.items()
            for span in timeline.of(rank)
            for member in members
        }


@st.composite
def _pods(draw: st.DrawFn, lab: Lab) -> tuple[dict[str, Any], dict[str, Any]]:
    """Leaves of unequal size under one spine, oversubscribed; one device may be slow, one cable may be poor."""
    pp, dp, tp = draw(st.sampled_from([(1, 6, 2), (2, 3, 2), (4, 3, 1), (1, 12, 1), (2, 6, 1)]))
    count = pp * dp * tp
    cuts = sorted(draw(st.sets(st.integers(1, count - 1), min_size=1, max_size=3)))
    leaves = [sum(index >= cut for cut in cuts) for index in range(count)]
    slow, poor = draw(st.integers(-1, count - 1)), draw(st.integers(-1, count - 1))
    links = [lab.link(f"d{i}", f"s{leaf}", "2 GB/s" if i == poor else "10 GB/s") for i, leaf in enumerate(leaves)]
    spine = len(cuts) + 1
    links += [lab.link(f"s{leaf}", f"s{spine}", draw(st.sampled_from(["10 GB/s", "40 GB/s"]))) for leaf in range(spine)]
    kinds = ["slow" if index == slow else "fast" for index in range(count)]
    plan = {"pp": pp, "dp": dp, "tp": tp, "num_microbatches": pp, "bucket_size": "60 kB"}
    return lab.graph(kinds, links, switches=spine + 1), plan


def _protocol(algorithm: str, name: str, **costs: Any) -> dict[str, Any]:
    return {"algorithm": algorithm, "name": name, "source": "made up", **costs}


LIBRARIES: list[dict[str, Any]] = [
    {},
    RINGS["collectives"],
    {"choice": {"all_reduce": "hierarchical", "all_gather": "hierarchical"}},
    {"choice": {"all_reduce": "halving_doubling"}},
    {
        "protocols": [
            _protocol("ring", "LL", overhead="1 us", latency="50%", efficiency="25%"),
            _protocol("ring", "Simple", overhead="9 us", latency="150%", efficiency="80%", copy="50 GB/s"),
            _protocol("tree", "LL", overhead="2 us", latency="60%", efficiency="40%"),
            _protocol("in_network", "Simple", overhead="4 us", efficiency="70%"),
            _protocol("direct", "LL", operations=["send"], overhead="1 us", efficiency="30%"),
            _protocol("direct", "Simple", operations=["send"], overhead="4 us", efficiency="90%"),
        ]
    },
]


@st.composite
def _machines(draw: st.DrawFn, lab: Lab) -> tuple[dict[str, Any], dict[str, Any]]:
    """Nodes of one or two sizes; cards of their own or shared; a link may be poor, a device slow, a switch may sum."""
    pp, dp, tp = draw(st.sampled_from([(1, 8, 1), (1, 4, 2), (2, 4, 1), (2, 2, 2), (1, 2, 4), (2, 2, 4), (4, 4, 1)]))
    count = pp * dp * tp
    cards = draw(st.sampled_from([["device"], ["switch"], ["switch", "switch"]]))
    uplinks = [{"from": end, "bandwidth": "5 GB/s", "latency": "2 us", "source": "made up"} for end in cards]
    summing = {"reduces": ["switch"]} if draw(st.booleans()) else {}

    def node(size: int) -> dict[str, Any]:
        return {**lab.box(size, uplinks=uplinks)["node"], **summing}

    sizes = draw(st.sampled_from([[2] * (count // 2), [4] * (count // 4), [2, 2, *[4] * (count // 4 - 1)]]))
    nodes = [{"node": node(size), "count": sizes.count(size)} for size in dict.fromkeys(sizes)]
    fabric = draw(
        st.sampled_from([{"kind": "switch"}, {"kind": "fat_tree", "nodes_per_leaf": 2, "oversubscription": 4}])
    )
    place = st.integers(0, len(sizes) - 1)
    poor = draw(st.sampled_from([[], [f"node{draw(place)}/device1->node*"], [f"*->node{draw(place)}/device0"]]))
    slow = [f"node{draw(place)}/device1"] if draw(st.booleans()) else []
    topology = {
        "name": "machines",
        "devices": {"gpu": lab.device()},
        "nodes": nodes,
        "fabric": {**fabric, "latency": "1 us", "source": "made up"},
        "degrade": [{"link": name, "bandwidth": "30%"} for name in poor],
        "slow": [{"device": name, "speed": "70%"} for name in slow],
        "collectives": draw(st.sampled_from(LIBRARIES)),
    }
    plan = {"pp": pp, "dp": dp, "tp": tp, "axes": draw(st.permutations(["pp", "dp", "tp"])), "bucket_size": "60 kB"}
    plan |= {"num_microbatches": pp, "sharding": draw(st.sampled_from(["none", "fsdp"]))}
    return topology, plan


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()
