"""One representative of each class of ranks lives exactly what every member of it lives."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost import Calibration
from simulator.engine import simulate
from simulator.load import Inputs, load
from simulator.results import measure


def check(lab: Any, inputs: Inputs, classes: int | None = None) -> None:
    folded, full = lab.run(inputs), lab.run(inputs, folding=False)
    assert sorted(full.ranks) == sorted(member for members in folded.ranks.values() for member in members)
    if classes is not None:
        assert len(folded.ranks) == classes
    assert folded.step_time == pytest.approx(full.step_time, rel=1e-9)
    ours, theirs = lab.times(folded), lab.times(full)
    assert ours.keys() == theirs.keys()
    tolerance = 1e-9 * full.step_time
    for key, expected in theirs.items():
        assert ours[key] == pytest.approx(expected, rel=0, abs=tolerance), key
    few, all_ranks = measure(folded), measure(full)
    for name in ("compute_time", "exposed_comm_time", "comm_time", "bubble_time", "bubble_fraction"):
        assert getattr(few, name) == pytest.approx(getattr(all_ranks, name), rel=1e-9, abs=tolerance), name


@pytest.mark.parametrize(
    ("topology", "settings_", "classes"),
    [
        pytest.param("dgx-a100", ["plan.tp=4", "plan.pp=2"], 2, id="one node"),
        pytest.param("dgx-a100", ["topology.nodes=3", "plan.tp=2", "plan.pp=4"], None, id="stages over nodes"),
        pytest.param("two-node-ethernet", ["plan.tp=2", "plan.pp=2"], None, id="a shared network card"),
        pytest.param("two-node-ethernet", ["plan.tp=4", "plan.axes=[tp, dp, pp]"], None, id="tp over ethernet"),
        pytest.param("pcie-box", ["plan.tp=2"], 1, id="replicas on a switch"),
        pytest.param("ring-8", ["plan.pp=2", "plan.tp=2"], None, id="a ring"),
        pytest.param("local-cpu", ["topology.node.count=4", "plan.pp=2"], 2, id="more ranks than cores"),
        pytest.param("local-cpu", ["topology.node.count=4", "plan.tp=2", "plan.pp=2"], 2, id="tp on shared cores"),
        pytest.param("local-cpu", ["topology.node.count=3", "topology.node.host.cores=2"], 1, id="three on two cores"),
    ],
)
def test_presets(lab: Any, topology: str, settings_: list[str], classes: int | None) -> None:
    changes = ["plan.dp=auto", "plan.num_microbatches=5", "plan.bucket_size=1 MiB", *settings_]
    check(lab, load("gpt-tiny", topology, "dp2", changes), classes)


def test_gpt3_needs_one_rank_for_each_stage(lab: Any) -> None:
    settings_ = ["topology.nodes=16", "plan.num_microbatches=3", "model.num_hidden_layers=16"]
    check(lab, load("gpt3-175b", "dgx-a100", "gpt3-tp8-pp8", settings_), classes=8)


def test_a_slow_device_splits_its_class(lab: Any) -> None:
    links = [lab.link(f"d{index}", "s0") for index in range(8)]
    even = lab.compile(lab.gpt, lab.graph(["fast"] * 8, links, switches=1), dp=8)
    odd = lab.compile(lab.gpt, lab.graph(["fast"] * 5 + ["slow"] + ["fast"] * 2, links, switches=1), dp=8)
    check(lab, even, classes=1)
    check(lab, odd, classes=2)
    assert lab.run(odd).step_time > lab.run(even).step_time


@st.composite
def uneven(draw: st.DrawFn, lab: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Devices of two kinds on two switches that are joined by one cable; every cable has one of two speeds."""
    pp, dp, tp = draw(st.sampled_from([(1, 4, 1), (2, 2, 1), (1, 2, 2), (2, 2, 2), (2, 3, 1), (4, 1, 2)]))
    count = pp * dp * tp
    speed = st.sampled_from(["1 GB/s", "20 GB/s"])
    kinds = draw(st.lists(st.sampled_from(["fast", "fast", "fast", "slow"]), min_size=count, max_size=count))
    links = [lab.link(f"d{index}", f"s{draw(st.integers(0, 1))}", draw(speed)) for index in range(count)]
    topology = lab.graph(kinds, [*links, lab.link("s0", "s1", draw(speed))], switches=2)
    if draw(st.booleans()):
        topology["devices"]["slow"]["overlap_slowdown"] = {"fraction": "30%", "source": "made up"}
    axes = draw(st.permutations(["pp", "dp", "tp"]))
    plan = {"pp": pp, "dp": dp, "tp": tp, "axes": axes, "num_microbatches": draw(st.integers(1, 4))}
    plan |= {"recompute": draw(st.sampled_from(["none", "full"])), "sharding": draw(st.sampled_from(["none", "fsdp"]))}
    return topology, {**plan, "schedule": draw(st.sampled_from(["gpipe", "1f1b"])), "bucket_size": "60 kB"}


def check_uneven(lab: Any, data: st.DataObject) -> None:
    topology, plan = data.draw(uneven(lab))
    check(lab, lab.compile(data.draw(st.sampled_from([lab.mlp, lab.gpt])), topology, **plan))


@settings(max_examples=50)
@given(st.data())
def test_uneven_clusters(lab: Any, data: st.DataObject) -> None:
    check_uneven(lab, data)


@pytest.mark.slow
@settings(max_examples=250)
@given(st.data())
def test_many_uneven_clusters(lab: Any, data: st.DataObject) -> None:
    check_uneven(lab, data)


def check_pods(lab: Any, data: st.DataObject) -> None:
    topology, plan = data.draw(lab.pods())
    check(lab, lab.compile(lab.gpt, topology, **plan))


@settings(max_examples=30)
@given(st.data())
def test_uneven_pods(lab: Any, data: st.DataObject) -> None:
    check_pods(lab, data)


@pytest.mark.slow
@settings(max_examples=150)
@given(st.data())
def test_many_uneven_pods(lab: Any, data: st.DataObject) -> None:
    check_pods(lab, data)


def check_machines(lab: Any, data: st.DataObject) -> None:
    topology, plan = data.draw(lab.machines())
    check(lab, lab.compile(lab.gpt, topology, **plan))


@settings(max_examples=40)
@given(st.data())
def test_nodes_with_a_library(lab: Any, data: st.DataObject) -> None:
    check_machines(lab, data)


@pytest.mark.slow
@settings(max_examples=250)
@given(st.data())
def test_many_nodes_with_a_library(lab: Any, data: st.DataObject) -> None:
    check_machines(lab, data)


@settings(max_examples=30)
@given(st.data())
def test_hosts_that_share_cores(lab: Any, data: st.DataObject) -> None:
    pp, dp, tp = data.draw(st.sampled_from([(1, 4, 1), (2, 2, 1), (1, 2, 2), (2, 2, 2), (4, 2, 1)]))
    per_node = data.draw(st.sampled_from([2, 4]))
    topology = lab.box(per_node, host={"cores": data.draw(st.integers(1, 3))})
    nodes = pp * dp * tp // per_node
    if nodes > 1:
        card = {"from": "switch", "bandwidth": "1 GB/s", "latency": "5 us", "source": "made up"}
        fabric = {"kind": "switch", "latency": "1 us", "source": "made up"}
        topology = {**topology, "nodes": nodes, "fabric": fabric, "node": {**topology["node"], "uplinks": [card]}}
    axes = data.draw(st.permutations(["pp", "dp", "tp"]))
    check(lab, lab.compile(lab.gpt, topology, pp=pp, dp=dp, tp=tp, axes=axes, num_microbatches=3, bucket_size="60 kB"))


@pytest.mark.parametrize(
    "changes", [{"schedule": "chimera"}, {"schedule": "zb_h1", "optimizer_barrier": False, "sharding": "fsdp"}]
)
def test_copies_of_stages_and_steps_in_a_row_fold_too(lab: Any, changes: dict[str, Any]) -> None:
    inputs = lab.compile(lab.gpt, {**lab.box(8), **lab.rings}, pp=4, dp=2, num_microbatches=8, **changes)
    check(lab, inputs, classes=4)


def test_what_a_program_keeps_of_one_calibration_serves_no_other(lab: Any) -> None:
    inputs = lab.compile(lab.gpt, lab.box(2), tp=2, num_microbatches=2)
    measured = Calibration(messages={"all_reduce x2": ((0.0, 1.0), (1e9, 1.0))})
    estimated, slow, again = (lab.run(inputs, each).step_time for each in (Calibration(), measured, Calibration()))
    assert estimated == again < 1 < slow


def test_what_a_program_keeps_of_one_topology_serves_no_other() -> None:
    """The first simulation of each pair leaves its system with the program."""
    changes = ["topology.node.count=8", "plan.tp=2", "plan.pp=2", "plan.dp=auto"]
    fast = load("gpt-tiny", "pcie-box", "single", changes)
    slow = load("gpt-tiny", "pcie-box", "single", [*changes, "topology.node.links.0.bandwidth=1 GB/s"])
    alone = [simulate(each.program, each.topology, Calibration())[0].step_time for each in (fast, slow)]
    assert alone[1] > 1.1 * alone[0]
    for topology, expected in ((slow.topology, alone[1]), (fast.topology, alone[0]), (slow.topology, alone[1])):
        assert simulate(fast.program, topology, Calibration())[0].step_time == expected
