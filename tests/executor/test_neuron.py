"""The workshop's neuron: a = w x + b, C = (a - y)^2, dC/dw = 2 x (a - y), dC/db = 2 (a - y); means over a batch."""

from __future__ import annotations

import pytest
import torch

from executor.runtime import Runtime
from executor.transport import Transport
from simulator.load import Inputs, load
from simulator.program.instructions import Kind


def neuron(*settings: str) -> Inputs:
    return load("linear-regression", "local-cpu", "single", ["topology.node.count=1", *settings])


@pytest.mark.parametrize(("size", "number"), [(1, 1), (4, 1), (2, 3)])
def test_gradient_is_the_formula(size: int, number: int) -> None:
    inputs = neuron(f"plan.microbatch_size={size}", f"plan.num_microbatches={number}")
    runtime = Runtime(inputs, 0, Transport(inputs.program), torch.device("cpu"))
    module = runtime.stages[0].module_of("neuron")
    w, b = module.weights["weight"], module.weights["bias"]
    batches = [runtime.data.microbatch(0, index) for index in range(number)]
    x = torch.cat([batch.inputs for batch in batches])
    y = torch.cat([batch.targets for batch in batches])
    for position, instruction in enumerate(runtime.instructions):
        if instruction.kind is not Kind.OPTIM:
            handler = runtime.handlers[instruction.kind]
            runtime.lanes.launch(position, instruction, (), lambda h=handler, i=instruction: h(i))
    error = w.detach() * x + b.detach() - y
    torch.testing.assert_close(w.grad, (2 * x * error).mean().view(1, 1), rtol=1e-6, atol=0)
    torch.testing.assert_close(b.grad, (2 * error).mean().view(1), rtol=1e-6, atol=0)


def test_training_finds_the_line() -> None:
    inputs = neuron("plan.microbatch_size=16", "plan.optimizer={kind: sgd, learning_rate: 0.1}")
    runtime = Runtime(inputs, 0, Transport(inputs.program), torch.device("cpu"))
    losses = [runtime.step()[1] for _ in range(120)]
    assert losses[-1] is not None and losses[0] is not None and losses[-1] < 1e-6 < losses[0]
    module = runtime.stages[0].module_of("neuron")
    assert module.weights["weight"].item() == pytest.approx(2, abs=1e-2)
    assert module.weights["bias"].item() == pytest.approx(1, abs=1e-2)


def test_a_smaller_batch_gives_more_updates() -> None:
    plans = [
        neuron("plan.dataset_size=100", "plan.epochs=3", f"plan.microbatch_size={b}", "plan.num_microbatches=1").plan
        for b in (32, 8)
    ]
    assert [plan.steps_per_epoch for plan in plans] == [4, 13]
    assert [plan.updates for plan in plans] == [12, 39]
