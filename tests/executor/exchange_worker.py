"""One of two ranks that train a graph with every exchange: what it held, and what it learned."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from executor.memory import held_bytes
from executor.runtime import Runtime
from executor.transport import Transport
from simulator.load import load
from simulator.program import compile as compiler
from simulator.program.liveness import held_after
from tests.exchanged import exchanged_graph


def main(cases: Path, out: Path) -> None:
    """Train each case for a step."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    setattr(compiler, "shard_graph", lambda *_, **__: exchanged_graph())  # noqa: B010 - stands for a rewriting
    for name, settings in json.loads(cases.read_text()).items():
        inputs = replace(load("mlp-tiny", "local-cpu", "single", settings), graph=exchanged_graph())
        runtime = Runtime(inputs, rank, Transport(inputs.program), torch.device("cpu"))
        before = {name: value for name, (_, _, value) in runtime.parameters().items()}
        runtime.step()
        after = {name: value for name, (_, _, value) in runtime.parameters().items()}
        batches = [runtime.data.microbatch(0, index) for index in range(inputs.plan.num_microbatches)]
        held, expected = held_bytes(runtime), held_after(inputs.program, 0)
        data = [(batch.inputs, batch.targets) for batch in batches]
        torch.save(
            {"before": before, "after": after, "data": data, "held": held, "expected": expected},
            out / f"{name}-{rank}.pt",
        )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
