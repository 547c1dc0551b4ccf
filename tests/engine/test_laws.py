"""Laws that hold for every plan on every cluster: bounds, monotony, indifference to the order of ranks."""

from collections.abc import Callable, Iterator
from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost import Calibration, ComputeCost
from simulator.cost.group import collective_seconds
from simulator.load import Inputs
from simulator.program.dependencies import dependencies
from simulator.program.instructions import COLLECTIVE_AXIS, Instruction, Stream

EPSILON = 1e-9

SIZES = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 1), (2, 1, 2), (1, 2, 2), (2, 2, 2), (4, 2, 1), (1, 2, 4)]
"""(pp, dp, tp)."""


def message_seconds(inputs: Inputs, rank: int, instruction: Instruction) -> float:
    """Time of a message that has all links to itself; its closed forms have tests of their own."""
    peers, message = inputs.program.peers(rank, instruction), inputs.program.message(instruction)
    if instruction.kind not in COLLECTIVE_AXIS and instruction.stream not in (Stream.SEND_F, Stream.RECV_F):
        peers = peers[::-1]
    return collective_seconds(inputs.topology, peers, message.operation, message.size)


def seconds(inputs: Inputs) -> Callable[[int, Instruction], float]:
    """Return the function that prices an instruction of a rank when nothing else happens."""
    costs: dict[str, ComputeCost] = {}

    def price(rank: int, instruction: Instruction) -> float:
        if instruction.stream is not Stream.COMPUTE:
            return message_seconds(inputs, rank, instruction)
        device = inputs.topology.device(rank)
        if device.kind not in costs:
            costs[device.kind] = ComputeCost(inputs.program, device, Calibration())
        return costs[device.kind].seconds(instruction)

    return price


def meeting(rank: int, inputs: Inputs, instruction: Instruction) -> Iterator[tuple[int, Instruction]]:
    """Yield everybody who must come before an instruction can run."""
    kinds = {Stream.SEND_F: "RECV_F", Stream.RECV_F: "SEND_F", Stream.SEND_B: "RECV_B", Stream.RECV_B: "SEND_B"}
    for peer in inputs.program.peers(rank, instruction):
        if peer == rank or instruction.kind in COLLECTIVE_AXIS:
            yield peer, instruction
        else:
            stage = inputs.plan.mesh.coordinate(peer, "pp")
            yield peer, Instruction.parse(f"{stage}{kinds[instruction.stream]}{instruction.microbatch}")


def critical_path(inputs: Inputs) -> float:
    """Longest path through the instructions of all ranks, joined by streams, data flow and messages."""
    program, price = inputs.program, seconds(inputs)
    lists = {rank: program.instructions(rank) for rank in range(inputs.topology.world_size)}
    places = {rank: {each: index for index, each in enumerate(each_list)} for rank, each_list in lists.items()}
    before: dict[int, list[list[int]]] = {}
    for rank, instructions in lists.items():
        before[rank] = [list(needs) for needs in dependencies(program, instructions)]
        last: dict[Stream, int] = {}
        for index, instruction in enumerate(instructions):
            if instruction.stream in last:
                before[rank][index].append(last[instruction.stream])
            last[instruction.stream] = index
    finished: dict[tuple[int, int], float] = {}
    while len(finished) < sum(map(len, lists.values())):
        for rank, instructions in lists.items():
            for index, instruction in enumerate(instructions):
                members = [(peer, places[peer][other]) for peer, other in meeting(rank, inputs, instruction)]
                causes = [(peer, need) for peer, place in members for need in before[peer][place]]
                if (rank, index) not in finished and all(cause in finished for cause in causes):
                    begin = max((finished[cause] for cause in causes), default=0.0)
                    finished |= dict.fromkeys(members, begin + price(rank, instruction))
    return max(finished.values())


def serial_sum(inputs: Inputs) -> float:
    """All compute of all ranks and all messages, one after the other."""
    price, total = seconds(inputs), 0.0
    for rank in range(inputs.topology.world_size):
        for instruction in inputs.program.instructions(rank):
            if inputs.program.peers(rank, instruction)[0] == rank:  # once for each meeting
                total += price(rank, instruction)
    return total


def busiest(inputs: Inputs) -> float:
    """Arithmetic of the busiest rank at the dense peak."""
    cost = ComputeCost(inputs.program, inputs.topology.device(0), Calibration())
    peak = inputs.topology.device(0).peak[inputs.plan.dtype]
    return max(sum(map(cost.flops, instructions)) for instructions in inputs.program.lists) / peak


CABLES = st.sampled_from(["0.5 GB/s", "4 GB/s", "40 GB/s"])


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    pp, dp, tp = draw(st.sampled_from(SIZES))
    return {
        "pp": pp,
        "dp": dp,
        "tp": tp,
        "schedule": draw(st.sampled_from(["gpipe", "1f1b"])),
        "num_microbatches": draw(st.integers(1, 4)),
        "microbatch_size": draw(st.sampled_from([1, 16])),
        "dp_overlap": draw(st.booleans()),
        "bucket_size": draw(st.sampled_from(["40 kB", "25 MiB"])),
        "recompute": draw(st.sampled_from(["none", "full"])),
        "sharding": draw(st.sampled_from(["none", "fsdp"])),
        "axes": draw(st.permutations(["pp", "dp", "tp"])),
    }


@st.composite
def clusters(draw: st.DrawFn, lab: Any, count: int) -> dict[str, Any]:
    """One switch, nodes that share a network card, or CPU cores for fewer threads than there are ranks."""
    cable = lab.link("device", "switch", draw(CABLES))
    form = draw(st.sampled_from(["box", "cores", "nodes"]))
    if form == "nodes" and count > 1:
        card = {"from": "switch", "bandwidth": draw(CABLES), "latency": "5 us", "source": "made up"}
        fabric = {"kind": "switch", "latency": "1 us", "source": "made up"}
        return {**lab.box(count // 2, cable, uplinks=[card]), "nodes": 2, "fabric": fabric}
    return lab.box(count, cable, **({"host": {"cores": draw(st.integers(1, count))}} if form == "cores" else {}))


def draw_case(lab: Any, data: st.DataObject) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    plan = data.draw(plans())
    topology = data.draw(clusters(lab, plan["pp"] * plan["dp"] * plan["tp"]))
    return data.draw(st.sampled_from([lab.mlp, lab.gpt])), topology, plan


@settings(max_examples=60)
@given(st.data())
def test_bounds(lab: Any, data: st.DataObject) -> None:
    model, topology, plan = draw_case(lab, data)
    inputs = lab.compile(model, topology, **plan)
    step = lab.run(inputs).step_time
    assert step >= critical_path(inputs) * (1 - EPSILON)
    assert step >= busiest(inputs)
    assert step <= serial_sum(inputs) * (1 + EPSILON)


@pytest.mark.parametrize(("pp", "dp", "tp"), SIZES)
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize("more", [{}, {"recompute": "full"}])
def test_equals_the_critical_path_where_nothing_is_shared(
    lab: Any, more: dict[str, Any], schedule: str, pp: int, dp: int, tp: int
) -> None:
    topology = lab.box(pp * dp * tp, lab.link("device", "device", "1 GB/s"))
    inputs = lab.compile(
        lab.gpt, topology, pp=pp, dp=dp, tp=tp, schedule=schedule, num_microbatches=3, bucket_size="80 kB", **more
    )
    assert lab.run(inputs).step_time == pytest.approx(critical_path(inputs), rel=EPSILON)


@settings(max_examples=60)
@given(st.data(), st.sampled_from(["links", "devices"]))
def test_uniformly_faster_is_never_slower(lab: Any, data: st.DataObject, what: str) -> None:
    model, topology, plan = draw_case(lab, data)
    slow = lab.run(lab.compile(model, topology, **plan)).step_time
    if what == "devices":
        topology = {**topology, "devices": {"gpu": lab.device("200 TFLOP/s", memory_bandwidth="2 TB/s")}}
    else:
        node = topology["node"]
        faster = {key: [twice_as_fast(cable) for cable in node.get(key, [])] for key in ("links", "uplinks")}
        topology = {**topology, "node": {**node, **faster}}
    assert lab.run(lab.compile(model, topology, **plan)).step_time <= slow * (1 + EPSILON)


@settings(max_examples=40)
@given(st.data(), st.sampled_from(SIZES))
def test_one_faster_part_is_never_slower_where_nothing_is_shared(
    lab: Any, data: st.DataObject, sizes: tuple[int, int, int]
) -> None:
    """On shared links this is no law: a faster card may let gradients crowd out the messages of the critical path."""
    pp, dp, tp = sizes
    count = pp * dp * tp
    ends = list(combinations(range(count), 2))
    speeds = data.draw(st.lists(CABLES, min_size=len(ends), max_size=len(ends)))
    kinds = data.draw(st.lists(st.sampled_from(["fast", "slow"]), min_size=count, max_size=count))

    def step() -> float:
        cables = [lab.link(f"d{a}", f"d{b}", speed) for (a, b), speed in zip(ends, speeds, strict=True)]
        inputs = lab.compile(lab.gpt, lab.graph(kinds, cables), pp=pp, dp=dp, tp=tp, num_microbatches=3)
        return lab.run(inputs).step_time

    before = step()
    kinds[data.draw(st.integers(0, count - 1))] = "fast"
    if ends:
        speeds[data.draw(st.integers(0, len(ends) - 1))] = "50 GB/s"
    assert step() <= before * (1 + EPSILON)


def twice_as_fast(cable: dict[str, Any]) -> dict[str, Any]:
    number, unit = cable["bandwidth"].split()
    return {**cable, "bandwidth": f"{2 * float(number)} {unit}"}


@pytest.mark.parametrize("cores", [None, 3, 8])
def test_the_order_of_ranks_does_not_matter(lab: Any, cores: int | None) -> None:
    topology = lab.box(8, **({"host": {"cores": cores}} if cores else {}))
    steps = [
        lab.run(lab.compile(lab.gpt, topology, pp=2, dp=2, tp=2, num_microbatches=3, axes=list(axes))).step_time
        for axes in permutations(["pp", "dp", "tp"])
    ]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=EPSILON)
