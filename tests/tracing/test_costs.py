"""What the model file of an imported module says, against torch: parameters, FLOPs and bytes held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from executor.data import global_batch  # noqa: E402
from executor.memory import held_bytes  # noqa: E402
from executor.runtime import Runtime  # noqa: E402
from executor.tracing.source import build  # noqa: E402
from executor.transport import Transport  # noqa: E402
from simulator.load import Inputs, load  # noqa: E402
from simulator.model import LayerGraph, Phase  # noqa: E402
from simulator.program.liveness import held_after  # noqa: E402
from tests.model.test_families_torch import COUNTS  # noqa: E402
from tests.tracing.models import SOURCES, loss_of, train, write  # noqa: E402

BATCH = 4


def inputs(name: str, folder: Path, *plan: str) -> Inputs:
    settings = ["topology.node.count=1", f"plan.microbatch_size={BATCH}", *(f"plan.{key}" for key in plan)]
    return load(write(name, folder), "local-cpu", "single", settings)


def products(graph: LayerGraph, phases: tuple[Phase, ...], batch: int) -> float:
    return sum(
        kernel.flops + kernel.repeated_flops
        for node in graph.nodes
        for phase in phases
        if phase is not Phase.INPUT_GRAD or graph.needs_input_grad(node)
        for kernel in node.layer.kernels(phase, graph.input_shapes(node), batch)
        if kernel.kind != "memory"
    )


def counted(graph: LayerGraph, batch: int) -> tuple[Any, int, int]:
    """Return a module, and the FLOPs that torch counts in its forward and in its backward."""
    assert graph.module
    module = build(graph.module.path)
    with FlopCounterMode(display=False, custom_mapping=COUNTS) as forward:
        loss = loss_of(graph, module, *global_batch(graph, batch, 0))
    with FlopCounterMode(display=False, custom_mapping=COUNTS) as backward:
        loss.backward()
    return module, forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("name", SOURCES)
def test_flops_and_parameters_are_those_of_the_module(name: str, tmp_path: Path) -> None:
    graph = inputs(name, tmp_path).graph
    # Neither of the two numbers of samples that it was traced with.
    for batch in (1, 5):
        module, forward, backward = counted(graph, batch)
        assert products(graph, (Phase.FORWARD,), batch) == forward
        # torch counts the weights' gradient of a grouped convolution as that of a whole one.
        twice = sum(2 * batch * 36 * 9 * 4 * 3 for node in graph.nodes if node.name == "depthwise")
        assert products(graph, (Phase.INPUT_GRAD, Phase.WEIGHT_GRAD), batch) == backward - twice
    # What the loss does not depend on is never trained, and no part of the graph.
    trained = [parameter for parameter in module.parameters() if parameter.grad is not None]
    assert graph.num_parameters == sum(parameter.numel() for parameter in trained)


@pytest.mark.parametrize("schedule", ["gpipe", "zb_h1"])
@pytest.mark.parametrize("name", SOURCES)
def test_one_process_trains_what_the_module_trains_by_itself(name: str, schedule: str, tmp_path: Path) -> None:
    """Whole and split backwards: losses, parameters, and on the way the bytes that the program says."""
    plan = (f"schedule={schedule}", "num_microbatches=2", "optimizer={kind: sgd, learning_rate: 0.05}")
    given = inputs(name, tmp_path, *plan)
    losses, module = train(given, 3)
    runtime = Runtime(given, 0, Transport(given.program), torch.device("cpu"))
    assert [runtime.step()[1] for _ in range(3)] == pytest.approx(losses, rel=1e-5)
    expected = {own: value for own, value in module.named_parameters() if value.grad is not None}
    found = {layer.full_name(own): value for layer in runtime.stages[0].layers for own, value in layer.weights.items()}
    assert found.keys() == expected.keys()
    for own, value in expected.items():
        torch.testing.assert_close(found[own], value, rtol=1e-5, atol=1e-6, msg=lambda text, n=own: f"{n}: {text}")
    # Scalars, and of a mean squared error the storage of the squares, in which torch leaves the mean.
    assert held_bytes(runtime) == pytest.approx(held_after(given.program, 0), abs=128)
