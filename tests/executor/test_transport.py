"""Groups give up on a message that nobody meets, so that ranks which wait for different things end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from executor.transport import Transport
from simulator.load import load
from simulator.program.instructions import Stream

pytestmark = pytest.mark.distributed


def _meets_nobody(rank: int, folder: str) -> None:
    """Wait on rank 0 for a sum that rank 1 takes no part in; note how that ends."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    inputs = load("mlp-tiny", "local-cpu", "dp2", ["topology.node.count=2"])
    transport = Transport(inputs.program, timeout=0.5)
    if rank == 0:
        try:
            transport.all_reduce(Stream.DP, torch.zeros(4)).wait()
        except RuntimeError as error:
            Path(folder, "ended").write_text(str(error), encoding="utf-8")
    # Rank 1 stays alive until then: what rank 0 sees is silence, not a lost connection.
    dist.barrier()
    dist.destroy_process_group()


def test_a_message_that_nobody_meets_is_an_error(tmp_path: Path) -> None:
    mp.spawn(_meets_nobody, (str(tmp_path),), nprocs=2)
    assert "Timed out waiting 500ms" in (tmp_path / "ended").read_text(encoding="utf-8")
