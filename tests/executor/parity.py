"""Plans trained by all their ranks beside the same model trained by one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from executor.modules.build import join_shards
from simulator.load import load
from simulator.model.graph import Shard
from tests.executor.reference import train

WORKER = Path(__file__).with_name("worker.py")
ROOT = Path(__file__).parents[2]

Settings = tuple[str, list[str]]
"""Of a case: the model's preset, and what is set."""


CASE_LIMIT = 20
"""Seconds for one case on the slowest machine: they take up to one on two cores."""


def train_together(out: Path, world: int, cases: dict[str, Settings], limit: float | None = None) -> None:
    """Train cases of one world size in one launch; each rank leaves what it ended with. The limit is in seconds."""
    limit = 60 + CASE_LIMIT * len(cases) if limit is None else limit
    listed = out / f"cases-{world}.json"
    listed.write_text(json.dumps(cases))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([*command, str(WORKER), str(listed), str(out)], env=environment, check=True, timeout=limit)


def assert_equals_one_process(trained: Path, case: str, world: int, preset: str, changes: list[str]) -> None:
    """Compare losses and parameters after the last step."""
    inputs = load(preset, "local-cpu", "single", changes)
    low = inputs.plan.dtype == "bf16"
    losses, expected = train(inputs, 3, torch.bfloat16 if low else torch.float32)
    ranks = [torch.load(trained / f"{case}-{rank}.pt") for rank in range(world)]
    # bf16 keeps 8 bits: sums in another order differ in the last of them.
    tolerance = {"rtol": 0.02, "atol": 0.02} if low else {"rtol": 1e-5, "atol": 1e-6}
    holders = [rank["losses"] for rank in ranks if rank["losses"][0] is not None]
    for step, loss in enumerate(losses):
        mean = sum(each[step] for each in holders) / len(holders)
        assert mean == pytest.approx(loss, rel=0.01 if low else 1e-5)
    assert all(rank["identical"] for rank in ranks), "data-parallel replicas differ"
    found = gather(inputs, ranks)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        known = ~value.isnan()
        if not name.endswith("qkv.bias"):
            # Softmax does not see a shift of all scores, so that the gradient of key biases is nothing but rounding.
            assert known.float().mean() > 0.99, f"{name}: gradients next to zero"
        torch.testing.assert_close(
            found[name].float()[known], value[known], msg=lambda text, n=name: f"{n}: {text}", **tolerance
        )


def cut_over(inputs, rank: int, node, parameter: str) -> tuple[int, ...]:
    """Return the ranks that have other parts of a rank's parameter; nobody has of a whole expert."""
    if inputs.plan.folds_experts and parameter == "expert_weight":
        return (rank,)
    # A vocabulary that a pipeline shares is cut over its ranks.
    shares = inputs.plan.vocab_pipeline and node.shard is Shard.VOCABULARY
    return inputs.plan.mesh.group(rank, "pp" if shares else "tp")


def gather(inputs, ranks: list[dict]) -> dict[str, torch.Tensor]:
    """Return whole parameters from the shards of all ranks."""
    mesh, program = inputs.plan.mesh, inputs.program
    nodes = {node.name: node for node in program.graph.nodes}
    found: dict[str, torch.Tensor] = {}
    for rank, saved in enumerate(ranks):
        if all(mesh.coordinate(rank, axis) == 0 for axis in ("tp", "dp", "cp")):
            for name, (node, parameter) in saved["nodes"].items():
                experts = program.group(rank, "ep") if parameter == "expert_weight" else (rank,)
                joined = [
                    join_shards(
                        nodes[node],
                        parameter,
                        [ranks[other]["values"][name] for other in cut_over(inputs, each, nodes[node], parameter)],
                    )
                    for each in experts
                ]
                found[name] = torch.cat(joined)
    return found
