"""What the executor counts of its own memory, and that it is what the Program says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from executor.memory import StorageMeter, held_bytes
from executor.runtime import Runtime
from executor.transport import Transport
from simulator.launch import Launch, run
from simulator.load import load
from simulator.planning import predict
from simulator.program.liveness import held_after
from simulator.results.compare import compare
from simulator.results.recording import Recording

KIB = 1024
MODELS = {
    "gpt-tiny": ["model.hidden_size=64", "model.sequence_length=32", "model.vocab_size=100"],
    "gpt2": [
        *("model.num_hidden_layers=4", "model.hidden_size=64", "model.num_attention_heads=4", "model.vocab_size=100"),
        *("model.sequence_length=32", "model.dropout=0.1", "model.tie_embeddings=false"),
    ],
    "cnn-tiny": ["model.image_size=16", "model.channels=[8,16]"],
    "mlp-tiny": ["model.hidden_sizes=[64,64,64]"],
    "residual-list": [],
}


def test_the_meter_counts_what_is_still_held() -> None:
    before = torch.ones(KIB)
    with StorageMeter() as meter:
        first, second = before * 2, before + 1
        assert meter.read() == 2 * 4 * KIB
        view = first[:10]
        before.add_(1)
        assert meter.read() == 2 * 4 * KIB, "views and what is written in place are nothing new"
        del first
        assert meter.read() == 2 * 4 * KIB, "the view holds all of it"
        del view, second
        assert meter.read() == 0


def test_the_meter_sees_what_autograd_holds() -> None:
    weight = torch.ones(KIB, requires_grad=True)
    with StorageMeter() as meter:
        loss = (weight * 2).relu().sum()
        assert meter.read() == 4 * KIB, "relu's output, which nothing but the graph holds; the sum is a single number"
        loss.backward()
        assert meter.read() == 4 * KIB, "the gradient of the weight"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("microbatch_size", [1, 2])
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("schedule", ["gpipe", "zb_h1", "interleaved_1f1b", "zbv"])
def test_a_rank_alone_holds_what_the_program_says_to_the_byte(
    model: str, schedule: str, recompute: str, microbatch_size: int
) -> None:
    """After each computation, whole and split, in one stage and in two that hand over to each other."""
    plan = [f"plan.schedule={schedule}", f"plan.recompute={recompute}", f"plan.microbatch_size={microbatch_size}"]
    settings = ["topology.node.count=1", *plan, *MODELS[model]]
    program = (inputs := load(model, "local-cpu", "single", [*settings, "plan.num_microbatches=4"])).program
    runtime = Runtime(inputs, 0, Transport(program), torch.device("cpu"))
    runtime.step()
    assert held_bytes(runtime) == held_after(program, 0)


@pytest.mark.distributed
def test_ranks_hold_what_the_program_says(tmp_path: Path) -> None:
    """Two ranks with whole and with split backwards, on every rank to 10 %."""
    plans = []
    shared = ("1f1b", "vocab_parallel: pipeline\n")
    for schedule, more in (("1f1b", ""), ("zb_h1", ""), ("zbv", ""), shared):
        plans.append(tmp_path / f"{schedule}{len(plans)}.yaml")
        text = f"name: {schedule}{len(plans)}\npp: 2\nschedule: {schedule}\nmicrobatch_size: 4\nnum_microbatches: 4\n"
        plans[-1].write_text(text + more)
    launch = Launch(
        models=["gpt-tiny"],
        topology="local-cpu",
        plans=[str(path) for path in plans],
        settings=["topology.node.count=2", "model.hidden_size=64", "model.sequence_length=32"],
        out=tmp_path / "out",
        steps=1,
        warmup=1,
    )
    for name, inputs in run(launch).items():
        measured = Recording.load(launch.out / name / "measured.json.gz")
        found = compare(predict(inputs).recording(), measured, inputs.program)
        assert sorted(found.activations) == [0, 1]
        for rank, pair in found.activations.items():
            assert pair.error == pytest.approx(0, abs=0.1), f"{name}, rank {rank}: {pair}"
        assert found.peak_activations is not None
        assert found.peak_activations.measured == max(pair.measured for pair in found.activations.values())
        for points in measured.steps[0].memory.values():
            assert points[0][1] == 0
            assert points[-1][1] == 0, "all is gone"


@pytest.mark.distributed
def test_what_arrives_in_parts_is_held_once(tmp_path: Path) -> None:
    """On the receiver to the byte: its parts are gathered where they arrived."""
    plan = tmp_path / "parts.yaml"
    keys = ("tp: 2", "pp: 2", "microbatch_size: 8", "num_microbatches: 4", "scatter_gather: true", "tp_overlap: true")
    plan.write_text("\n".join(("name: parts", *keys, "")))
    sizes = ["topology.node.count=4", "model.hidden_size=64", "model.sequence_length=32"]
    launch = Launch(
        models=["gpt-tiny"],
        topology="local-cpu",
        plans=[str(plan)],
        settings=sizes,
        out=tmp_path / "out",
        steps=1,
        warmup=1,
    )
    ((name, inputs),) = run(launch).items()
    measured = Recording.load(launch.out / name / "measured.json.gz")
    found = compare(predict(inputs).recording(), measured, inputs.program)
    assert [found.activations[rank].error for rank in (2, 3)] == [0.0, 0.0]
