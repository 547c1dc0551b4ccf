"""Every family against torch itself: parameters, FLOPs, bytes held, and one step of training."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count  # noqa: E402

from executor.data import global_batch  # noqa: E402
from executor.memory import held_bytes  # noqa: E402
from executor.modules.build import initial_value  # noqa: E402
from executor.modules.functions import FORWARD  # noqa: E402
from executor.modules.operations import PLAIN  # noqa: E402
from executor.runtime import Runtime  # noqa: E402
from executor.transport import Transport  # noqa: E402
from simulator.load import Inputs, load  # noqa: E402
from simulator.model import LayerGraph, Phase  # noqa: E402
from simulator.model.graph import INPUT  # noqa: E402
from simulator.program.liveness import held_after  # noqa: E402
from tests.executor.reference import train  # noqa: E402
from tests.model.small import SMALL, changes  # noqa: E402

BATCH = 3
ATEN = torch.ops.aten
UNFUSED = [(name, False) for name in SMALL]
WITH_FLASH = [*UNFUSED, *((name, True) for name in SMALL if name != "resnet")]
ON_CPU = [case for case in WITH_FLASH if case != ("deepseek", True)]
"""torch has no fused attention with values narrower than keys on a CPU."""


def inputs(family: str, *further: str, plan: tuple[str, ...] = ()) -> Inputs:
    settings = ["topology.node.count=1", *(f"plan.{key}" for key in plan), *changes(family, *further)]
    return load(SMALL[family][0], "local-cpu", "single", settings)


def weights(graph: LayerGraph) -> dict[str, Any]:
    return {
        f"{node.name}.{name}": torch.nn.Parameter(initial_value(f"{node.name}.{name}", shape))
        for node in graph.nodes
        for name, shape in node.layer.parameters().items()
    }


def run(graph: LayerGraph, values: dict[str, Any]) -> Any:
    """Return the loss of one batch, computed layer by layer."""
    batch, targets = global_batch(graph, BATCH, 0)
    tensors = {INPUT: batch}
    for node in graph.nodes:
        local = {name: values[f"{node.name}.{name}"] for name in node.layer.parameters()}
        if owner := getattr(node.layer, "weight_of", ""):
            local["weight"] = values[f"{owner}.weight"]
        arguments = [tensors[name] for name in node.inputs] + ([targets] if node is graph.loss else [])
        tensors[node.name] = FORWARD[node.layer.kind](PLAIN, node.layer, local, *arguments)
        assert tuple(tensors[node.name].shape[1:]) == graph.shape(node.name)
    return tensors[graph.loss.name]


def products(graph: LayerGraph, phases: tuple[Phase, ...]) -> float:
    """FLOPs of products and of fused attention, with what it computes again."""
    return sum(
        kernel.flops + kernel.repeated_flops
        for node in graph.nodes
        for phase in phases
        if phase is not Phase.INPUT_GRAD or graph.needs_input_grad(node)
        for kernel in node.layer.kernels(phase, graph.input_shapes(node), BATCH)
        if kernel.kind != "memory"
    )


def cpu_flash(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """torch's own count for GPUs, each query head with a head of keys; it has none for its kernel on CPUs."""
    heads = query[:2]
    return int(sdpa_flop_count(query, (*heads, *key[2:]), (*heads, *value[2:])))


def cpu_flash_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    heads = query[:2]
    return int(sdpa_backward_flop_count(gradient, query, (*heads, *key[2:]), (*heads, *value[2:])))


COUNTS = {
    ATEN._scaled_dot_product_flash_attention_for_cpu: cpu_flash,
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: cpu_flash_backward,
}


@pytest.mark.parametrize(("family", "flash"), ON_CPU)
def test_flops_are_those_that_torch_counts(family: str, flash: bool) -> None:
    graph = inputs(family, *(["flash=true"] if flash else [])).graph
    values = weights(graph)
    with FlopCounterMode(display=False, custom_mapping=COUNTS) as counter:
        loss = run(graph, values)
    assert products(graph, (Phase.FORWARD,)) == counter.get_total_flops()
    with FlopCounterMode(display=False, custom_mapping=COUNTS) as counter:
        loss.backward()
    assert products(graph, (Phase.INPUT_GRAD, Phase.WEIGHT_GRAD)) == counter.get_total_flops()


@pytest.mark.parametrize("family", SMALL)
def test_every_parameter_gets_a_gradient(family: str) -> None:
    graph = inputs(family).graph
    values = weights(graph)
    assert sum(value.numel() for value in values.values()) == graph.num_parameters
    run(graph, values).backward()
    missing = [name for name, value in values.items() if value.grad is None or not value.grad.abs().sum() > 0]
    assert missing == []


@pytest.mark.parametrize("schedule", ["gpipe", "zb_h1"])
@pytest.mark.parametrize(("family", "flash"), WITH_FLASH)
def test_a_step_trains_what_one_process_trains(family: str, schedule: str, flash: bool) -> None:
    """Whole and split backwards against plain autograd, which knows no stages and no put-off gradients."""
    plan = (
        f"schedule={schedule}",
        "microbatch_size=4",
        "num_microbatches=1",
        "optimizer={kind: sgd, learning_rate: 0.05}",
    )
    given = inputs(family, *(["flash=true"] if flash else []), plan=plan)
    losses, expected = train(given, 1)
    runtime = Runtime(given, 0, Transport(given.program), torch.device("cpu"))
    assert runtime.step()[1] == pytest.approx(losses[0], rel=1e-5)
    found = {name: value for name, (_, _, value) in runtime.parameters().items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("schedule", ["gpipe", "zb_h1"])
@pytest.mark.parametrize(("family", "flash"), ON_CPU)
def test_bytes_held_are_what_the_program_says(family: str, schedule: str, flash: bool) -> None:
    plan = (f"schedule={schedule}", "microbatch_size=2", "num_microbatches=2")
    given = inputs(family, *(["flash=true"] if flash else []), plan=plan)
    runtime = Runtime(given, 0, Transport(given.program), torch.device("cpu"))
    runtime.step()
    # Where backward is split, the layer says that an expert's product keeps the router's weights; it needs them not.
    routers = [node for node in given.graph.nodes if node.layer.kind == "router"] if schedule == "zb_h1" else []
    unneeded = sum(2 * 4 * math.prod(given.graph.shape(router.name)) for router in routers)
    assert held_bytes(runtime) == pytest.approx(held_after(given.program, 0), abs=64 + unneeded)
