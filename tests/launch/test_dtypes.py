"""The executor says which dtypes it cannot train in before it starts a process."""

from pathlib import Path

import pytest

from simulator.errors import ExecutionError
from simulator.launch import Launch, run


def test_a_dtype_that_is_only_predicted_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    settings = ["topology.devices.cpu-core.peak={fp16: 80 GFLOP/s}", "topology.node.count=1", "plan.dtype=fp16"]
    launch = Launch(models=["mlp-tiny"], topology="local-cpu", plans=["single"], settings=settings, out=tmp_path)
    with pytest.raises(ExecutionError, match=r"plan single trains in fp16, and the executor in fp32 or bf16"):
        run(launch)
