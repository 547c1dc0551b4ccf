"""One rank of the parity tests: trains every case of its world size and saves what it ended with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from executor.runtime import Runtime
from executor.transport import Transport
from simulator.load import load

STEPS = 3


def main(cases: Path, out: Path) -> None:
    """Train each case for three steps."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    for name, (model, settings) in json.loads(cases.read_text()).items():
        inputs = load(model, "local-cpu", "single", settings)
        runtime = Runtime(inputs, rank, Transport(inputs.program), torch.device("cpu"))
        losses, identical = [], True
        for _ in range(STEPS):
            losses.append(runtime.step()[1])
            identical = identical and replicas_agree(runtime)
        values = {name: value.clone() for name, (_, _, value) in runtime.parameters().items()}
        nodes = {name: (node, parameter) for name, (node, parameter, _) in runtime.parameters().items()}
        torch.save(
            {"losses": losses, "values": values, "nodes": nodes, "identical": identical},
            out / f"{name}-{rank}.pt",
        )
    dist.barrier()
    dist.destroy_process_group()


def replicas_agree(runtime: Runtime) -> bool:
    """Return whether all replicas of this rank's parameters are bit-identical."""
    mine = {name: value.view(torch.uint8).numpy().tobytes() for name, (_, _, value) in runtime.parameters().items()}
    everyone: list[dict[str, bytes]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, mine)
    replicas = {axis: runtime.program.group(runtime.rank, axis) for axis in ("dp", "dp_expert")}
    return all(
        everyone[other][name] == value
        for name, value in mine.items()
        for other in replicas["dp_expert" if name.endswith("expert_weight") else "dp"]
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
