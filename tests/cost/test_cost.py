"""Seconds and bytes of instructions, by hand."""

from dataclasses import replace

import pytest

from simulator.cost import Calibration, ComputeCost
from simulator.cost.calibration import (
    BACKWARD,
    FORWARD,
    INNER_GRAD,
    INPUT_GRAD,
    WEIGHT_GRAD,
    WEIGHT_ONLY,
    layer_key,
    message_key,
)
from simulator.cost.collectives import Transfer, joined
from simulator.cost.compute import PASSES, phases
from simulator.cost.kernels import kernel_seconds
from simulator.errors import InputError
from simulator.load import Inputs, load
from simulator.model.layers.base import Kernel, Phase
from simulator.program import Instruction
from simulator.topology import Efficiency
from tests.cost.box import inputs


def test_a_kernel_takes_the_longer_of_arithmetic_and_traffic() -> None:
    device = inputs("mlp-tiny").topology.device(0)
    device = replace(device, efficiency=Efficiency(matmul=0.7, memory=0.8), launch_overhead=5e-6)
    rate, bandwidth = 19.5e12 * 0.7, 1935e9 * 0.8
    assert kernel_seconds(Kernel("matmul", 1e12, 10.0), device, "fp32", 4) == pytest.approx(5e-6 + 1e12 / rate)
    assert kernel_seconds(Kernel("matmul", 10.0, 1e9), device, "fp32", 4) == pytest.approx(5e-6 + 4e9 / bandwidth)
    both = kernel_seconds(Kernel("matmul", rate * 3e-3, bandwidth * 2e-3 / 4), device, "fp32", 4)
    assert both == pytest.approx(3e-3 + 5e-6)
    assert kernel_seconds(Kernel("memory", 1e15, 1e9), device, "bf16", 2) == pytest.approx(5e-6 + 2e9 / bandwidth)


def test_a_slow_device_takes_longer() -> None:
    nominal = inputs("mlp-tiny")
    slow = replace(nominal.topology.device(0), speed=0.5)
    work = Instruction.parse("0F0.0")
    times = [
        ComputeCost(nominal.program, device, Calibration()).seconds(work)
        for device in (slow, nominal.topology.device(0))
    ]
    assert times[0] == pytest.approx(2 * times[1])


@pytest.mark.parametrize("schedule", ["1f1b", "zb_h1"])
def test_every_segment_costs_the_sum_of_its_own_kernels(schedule: str) -> None:
    """Layers that do the same are priced once; that must not show."""
    gpt = load(
        "gpt-tiny", "pcie-box", "single", ["plan.pp=2", "plan.tp=2", "plan.dp=auto", f"plan.schedule={schedule}"]
    )
    program, device = gpt.program, gpt.topology.device(0)
    cost = ComputeCost(program, device, Calibration())
    passes = set()
    for work in {each.work() for instructions in program.lists for each in instructions if each.kind in PASSES}:
        expected = 0.0
        for node in program.segment(work).nodes:
            passes.add((node.name, work.kind))
            for phase in phases(program.graph, node, work.kind):
                kernels = node.layer.kernels(phase, program.graph.input_shapes(node), program.plan.microbatch_size)
                expected += sum(kernel_seconds(each, device, "fp32", 4) for each in kernels)
        assert cost.seconds(work) == pytest.approx(expected, rel=1e-12), work
    assert (cost.measured, cost.estimated) == (0, len(passes))
    assert len(set(program.graph.twins.values())) < len(program.graph.nodes) / 2


def test_measured_layers_are_added_up_and_others_scaled() -> None:
    mlp = inputs("mlp-tiny", "model.hidden_sizes=[32]")
    graph = mlp.program.graph
    fc, relu, head, loss = (layer_key(n.layer, graph.input_shapes(n), 8, "fp32") for n in graph.nodes)
    layers = {
        fc: {FORWARD: 1.0, BACKWARD: 100.0, WEIGHT_ONLY: 2.0},  # the first layer: no input gradient
        relu: {FORWARD: 3.0, BACKWARD: 4.0},
        head: {FORWARD: 5.0, BACKWARD: 6.0},
        loss: {FORWARD: 7.0, BACKWARD: 8.0},
    }
    calibration = Calibration(layers=layers, updates={"adam fp32": (0.5, 0.001)})
    cost = ComputeCost(mlp.program, mlp.topology.device(0), calibration)
    assert cost.seconds(Instruction.parse("0F3.0")) == 1 + 3 + 5 + 7
    assert cost.seconds(Instruction.parse("0B0.0")) == 2 + 4 + 6 + 8
    parameters = 784 * 32 + 32 + 32 * 10 + 10
    assert cost.seconds(Instruction.parse("0OPTIM")) == pytest.approx(0.5 + 0.001 * parameters)
    assert (cost.measured, cost.estimated) == (8, 0)
    without_head = {key: parts for key, parts in layers.items() if key != head}
    partly = ComputeCost(mlp.program, mlp.topology.device(0), replace(calibration, layers=without_head))
    assert partly.seconds(Instruction.parse("0F3.0")) > 1 + 3 + 7 + 0.25
    assert partly.estimated == 1


def pipelined(schedule: str) -> tuple[Inputs, list[str]]:
    """An MLP of two stages, and the keys of its layers: fc0 relu0 | head loss."""
    mlp = inputs("mlp-tiny", "model.hidden_sizes=[32]", "plan.pp=2", f"plan.schedule={schedule}", devices=2)
    graph = mlp.program.graph
    return mlp, [layer_key(n.layer, graph.input_shapes(n), 8, "fp32") for n in graph.nodes]


def prices(mlp: Inputs, layers: dict[str, dict[str, float]], *actions: str) -> list[float]:
    cost = ComputeCost(mlp.program, mlp.topology.device(0), Calibration(layers=layers))
    return [cost.seconds(Instruction.parse(action)) for action in actions]


ACTIONS = ("0F0.0", "0I0.0", "0W0.0", "0B0.0", "1F0.0", "1I0.0", "1W0.0", "1B0.0")


def test_gradients_that_were_measured_apart_are_priced_apart() -> None:
    """In a plan that splits, a whole backward runs as its two halves; the whole one that was measured is not run."""
    mlp, keys = pipelined("zb_h1")
    layers = {
        key: {FORWARD: 1.0 * k, BACKWARD: 1e6, WEIGHT_ONLY: 1e6, INPUT_GRAD: 10.0 * k, WEIGHT_GRAD: 100.0 * k}
        for k, key in zip((1, 2, 3, 4), keys, strict=True)
    }
    layers[keys[0]][INNER_GRAD] = 0.5
    assert [[node.name for node in stage.nodes] for stage in mlp.program.stages] == [["fc0", "relu0"], ["head", "loss"]]
    assert prices(mlp, layers, *ACTIONS) == [3, 20.5, 300, 320.5, 7, 70, 700, 770]


def test_each_backward_starts_at_a_price_of_its_own() -> None:
    mlp, keys = pipelined("1f1b")
    layers = {key: {FORWARD: 1.0, BACKWARD: 4.0, WEIGHT_ONLY: 2.0} for key in keys}
    starts = {BACKWARD: 0.5, INPUT_GRAD: 0.25}
    cost = ComputeCost(mlp.program, mlp.topology.device(0), Calibration(layers=layers, starts=starts))
    assert [cost.seconds(Instruction.parse(each)) for each in ("0F0.0", "0B0.0", "1B0.0")] == [2, 6.5, 8.5]
    split, keys = pipelined("zb_h1")
    halves = {key: {FORWARD: 1.0, INPUT_GRAD: 4.0, INNER_GRAD: 1.0, WEIGHT_GRAD: 8.0} for key in keys}
    cost = ComputeCost(split.program, split.topology.device(0), Calibration(layers=halves, starts=starts))
    assert [cost.seconds(Instruction.parse(each)) for each in ("1I0.0", "1W0.0")] == [8.25, 16]


def test_a_plan_that_never_splits_costs_the_whole_backward() -> None:
    mlp, keys = pipelined("1f1b")
    halves = {key: {FORWARD: 1.0, INNER_GRAD: 5.0, INPUT_GRAD: 10.0, WEIGHT_GRAD: 100.0} for key in keys}
    whole = {key: {**parts, BACKWARD: 7.0, WEIGHT_ONLY: 3.0} for key, parts in halves.items()}
    # relu0 needs an input gradient, for fc0 has weights.
    assert prices(mlp, whole, "0B0.0", "1B0.0") == [3 + 7, 7 + 7]
    assert prices(mlp, halves, "0B0.0", "1B0.0") == [105 + 110, 110 + 110]


def test_halves_share_a_backward_that_was_measured_whole() -> None:
    mlp, keys = pipelined("zb_h1")
    layers = {key: {FORWARD: 1.0, BACKWARD: 8.0, WEIGHT_ONLY: 4.0} for key in keys}
    first_input, first_weights, first, last_input, last_weights, last = prices(
        mlp, layers, "0I0.0", "0W0.0", "0B0.0", "1I0.0", "1W0.0", "1B0.0"
    )
    assert (first_input, first_weights, first) == (8, 4, 12)
    assert last_input + last_weights == pytest.approx(last) == 16
    assert 8 < last_input < 16


def test_measured_messages_are_interpolated() -> None:
    calibration = Calibration(messages={message_key("all_reduce", 2): ((100.0, 1.0), (200.0, 2.0), (400.0, 10.0))})
    sizes = [0, 50, 100, 150, 200, 300, 400, 500]
    found = [calibration.message_seconds("all_reduce", 2, size) for size in sizes]
    assert found == [1.0, 1.0, 1.0, 1.5, 2.0, 6.0, 10.0, 14.0]
    assert calibration.message_seconds("all_reduce", 4, 100) is None
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_what_only_waits_joins_what_follows() -> None:
    waits, flows, ends = Transfer(1.0, 0.0, 0), Transfer(2.0, 8.0, 1), Transfer(4.0, 0.0, 2)
    assert joined([waits, waits, flows, flows, ends]) == (Transfer(4.0, 8.0, 1), flows, Transfer(4.0, 0.0))
    assert joined([waits, ends]) == (Transfer(5.0, 0.0),)
    assert joined([Transfer(0.0, 0.0)]) == (Transfer(0.0, 0.0),)


def test_a_rank_updates_its_part_of_sharded_parameters() -> None:
    program = inputs("gpt-tiny", "plan.dp=4", "plan.sharding=fsdp", devices=4).program
    calibration = Calibration(updates={"adam fp32": (0.0, 1.0)})
    cost = ComputeCost(program, inputs("gpt-tiny").topology.device(0), calibration)
    assert cost.seconds(Instruction.parse("0OPTIM")) == program.stages[0].num_parameters / 4
    assert cost.seconds(Instruction.parse("0RESHARD0.0")) == 0


def test_an_instruction_takes_no_less_than_the_host_that_launches_its_kernels() -> None:
    mlp = inputs("mlp-tiny", "model.hidden_sizes=[32]")
    device, work = mlp.topology.device(0), Instruction.parse("0F3.0")
    free = ComputeCost(mlp.program, device, Calibration()).seconds(work)
    # Forward of fc, relu, head and loss.
    shapes = [(node, mlp.program.graph.input_shapes(node)) for node in mlp.program.graph.nodes]
    kernels = sum(len(node.layer.kernels(Phase.FORWARD, shape, 8)) for node, shape in shapes)
    for launch in (0.5 * free / kernels, 3 * free / kernels):
        bound = ComputeCost(mlp.program, replace(device, host_launch=launch), Calibration()).seconds(work)
        assert bound == pytest.approx(max(free, kernels * launch))


def test_a_dtype_that_a_device_lacks_names_those_it_has() -> None:
    with pytest.raises(InputError, match=r"device A100-PCIe-80GB has no peak for fp8; it has bf16, fp16, tf32, fp32"):
        inputs("mlp-tiny", "plan.dtype=fp8")
    alone = "topology.devices.A100-PCIe-80GB.peak={fp8: 1 TFLOP/s}"
    with pytest.raises(InputError, match=r"has no peak for bf16, which fp8 needs beside it; it has fp8"):
        inputs("mlp-tiny", "plan.dtype=fp8", alone)
