"""Imported modules under data parallelism, sharding and pipelines: the same losses and parameters as in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from simulator.load import load  # noqa: E402
from tests.tracing.models import train, write  # noqa: E402

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "tests/executor/worker.py"
SGD = "plan.optimizer={kind: sgd, learning_rate: 0.05}"
BATCH = ("plan.global_batch_size=8", "plan.num_microbatches=null", SGD)
SPLIT = "plan.schedule=zb_h1"

# name: (world size, model, micro-batch size, further settings)
CASES: dict[str, tuple[int, str, int, list[str]]] = {
    "gpt-dp2": (2, "gpt", 2, ["plan.dp=2"]),
    "resnet-dp2": (2, "resnet", 4, ["plan.dp=2"]),
    "tied_gpt-dp2": (2, "tied_gpt", 2, ["plan.dp=2", "plan.bucket_size=512 B"]),
    "mlp-zero2": (2, "mlp", 2, ["plan.dp=2", "plan.sharding=zero2"]),
    "gpt-fsdp": (2, "gpt", 2, ["plan.dp=2", "plan.sharding=fsdp"]),
    "vit-fsdp-split": (2, "vit", 2, ["plan.dp=2", "plan.sharding=fsdp", SPLIT]),
    "resnet-fsdp-recompute": (2, "resnet", 4, ["plan.dp=2", "plan.sharding=fsdp", "plan.recompute=full"]),
    "mlp-pp2-split": (2, "mlp", 1, ["plan.pp=2", SPLIT]),
    "resnet-pp2": (2, "resnet", 2, ["plan.pp=2"]),
    "vit-pp2-split": (2, "vit", 2, ["plan.pp=2", SPLIT]),
    "own_loss-pp2": (2, "own_loss", 2, ["plan.pp=2", "plan.schedule=gpipe"]),
    "gpt-dp2-pp2-split": (4, "gpt", 1, ["plan.dp=2", "plan.pp=2", SPLIT]),
    "vit-dp2-pp2-fsdp": (4, "vit", 2, ["plan.dp=2", "plan.pp=2", "plan.sharding=fsdp"]),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train all cases, one launch for each world size."""
    out = tmp_path_factory.mktemp("tracing")
    for world in sorted({case[0] for case in CASES.values()}):
        given = {name: _settings(out, name) for name, case in CASES.items() if case[0] == world}
        cases = out / f"cases-{world}.json"
        cases.write_text(json.dumps(given))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        subprocess.run([*command, str(WORKER), str(cases), str(out)], env=environment, check=True, timeout=600)
    return out


def _settings(folder: Path, case: str) -> tuple[str, list[str]]:
    world, model, microbatch, further = CASES[case]
    settings = [f"topology.node.count={world}", *BATCH, f"plan.microbatch_size={microbatch}", *further]
    return write(model, folder), settings


@pytest.mark.parametrize("case", CASES)
def test_training_equals_one_process(trained: Path, case: str) -> None:
    world = CASES[case][0]
    model, settings = _settings(trained, case)
    losses, module = train(load(model, "local-cpu", "single", settings), 3)
    ranks = [torch.load(trained / f"{case}-{rank}.pt") for rank in range(world)]
    assert all(rank["identical"] for rank in ranks), "data-parallel replicas differ"
    holders = [rank["losses"] for rank in ranks if rank["losses"][0] is not None]
    for step, loss in enumerate(losses):
        assert sum(each[step] for each in holders) / len(holders) == pytest.approx(loss, rel=1e-5)
    found = {name: value for rank in ranks for name, value in rank["values"].items()}
    expected = dict(module.named_parameters())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
