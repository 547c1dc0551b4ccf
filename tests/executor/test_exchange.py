"""Exchanges in training: gradients are those of all ranks together, and memory is what the Program says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.exchanged import RANKS, ROWS, WIDTH

WORKER = Path(__file__).with_name("exchange_worker.py")
RATE = 0.5
CASES = {
    f"{schedule}-{recompute}": [
        "topology.node.count=2",
        "plan.tp=2",
        "plan.num_microbatches=2",
        "plan.microbatch_size=3",
        f"plan.schedule={schedule}",
        f"plan.recompute={recompute}",
        f"plan.optimizer={{kind: sgd, learning_rate: {RATE}}}",
    ]
    for schedule in ("1f1b", "zb_h1")
    for recompute in ("none", "full")
}

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exchange")
    (out / "cases.json").write_text(json.dumps(CASES))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[2])}
    subprocess.run([*command, str(WORKER), str(out / "cases.json"), str(out)], env=environment, check=True, timeout=120)
    return out


Ranks = list[Tensor]
Weights = list[dict[str, Tensor]]


def losses(weights: Weights, x: Tensor, target: Tensor) -> Ranks:
    """Return the loss of each rank, computed by one process: the same graph with the exchanges written out."""

    def dense(name: str, values: Ranks) -> Ranks:
        pairs = zip(weights, values, strict=True)
        return [functional.linear(v, own[f"{name}.weight"], own[f"{name}.bias"]) for own, v in pairs]

    half = ROWS // RANKS
    total = sum(dense("first", [x] * RANKS))
    assert isinstance(total, Tensor)
    shares = [total[:, :half], total[:, half:]]
    pairs = zip(weights, shares, strict=True)
    norm = [functional.layer_norm(v, (WIDTH,), own["norm.weight"], own["norm.bias"]) for own, v in pairs]
    shifts = norm[::-1]
    both = [a + b for a, b in zip(dense("beside", norm), dense("far", shifts), strict=True)]
    columns = [torch.cat(parts, 1).relu() for parts in zip(*(each.chunk(2, 2) for each in both), strict=True)]
    rows = [torch.cat(parts, 2) for parts in zip(*(each.chunk(2, 1) for each in columns), strict=True)]
    gathered = torch.cat([a + b for a, b in zip(rows, norm, strict=True)], 1)
    # All ranks go on with the same values, so what they make of them counts once: here, half on each.
    summed = sum(dense("partial", [gathered] * RANKS))
    assert isinstance(summed, Tensor)
    return [functional.cross_entropy((summed + gathered).flatten(0, 1), target.flatten())] * RANKS


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_all_ranks_together(trained: Path, case: str) -> None:
    """An f adds up what each rank makes of the sum of the partial products, a gather what each makes of the whole."""
    ranks = [torch.load(trained / f"{case}-{rank}.pt") for rank in range(RANKS)]
    weights = [{name: value.clone().requires_grad_() for name, value in each["before"].items()} for each in ranks]
    for x, target in ranks[0]["data"]:
        (sum(losses(weights, x, target)) / len(ranks[0]["data"])).backward()
    for rank, own in enumerate(weights):
        for name, value in own.items():
            assert value.grad is not None
            found = (ranks[rank]["before"][name] - ranks[rank]["after"][name]) / RATE
            # After g each rank has the whole loss for itself: of it, the partial products see their own rank's alone.
            share = 1 / RANKS if name.startswith("partial") else 1
            assert torch.allclose(found, share * value.grad, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("case", CASES)
def test_memory_is_what_the_program_says(trained: Path, case: str) -> None:
    """But for losses, and for a shift that is still under way while its rank computes: what it sends and receives."""
    losses, under_way = 16 * 2, 2 * 3 * ROWS // RANKS * WIDTH * 4
    for rank in range(RANKS):
        found = torch.load(trained / f"{case}-{rank}.pt")
        assert max(found["held"]) == pytest.approx(max(found["expected"]), abs=losses)
        assert found["held"] == pytest.approx(found["expected"], abs=losses + under_way)
        exact = [
            abs(held - expected) <= losses for held, expected in zip(found["held"], found["expected"], strict=True)
        ]
        assert sum(exact) > 0.8 * len(exact)
