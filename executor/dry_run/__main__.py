"""``python -m executor.dry_run``: what ranks of a plan do on tensors without values, beside what its Program says."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from executor.dry_run.compare import Comparison, compare
from executor.dry_run.expected import expected
from executor.dry_run.ranks import representatives
from simulator.errors import ExecutionError
from simulator.load import Inputs, load_jobs
from simulator.results.recording import write_json


def main() -> int:
    """Write the comparisons of all jobs as JSON; exit 1 where the executor cannot run one."""
    arguments = _parser().parse_args()
    jobs = load_jobs(arguments.model, arguments.topology, arguments.plan, arguments.set)
    try:
        results = [_job(name, inputs, arguments.rank) for name, inputs in jobs.items()]
    except ExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    write_json(Path(arguments.out), {"results": results})
    return 0


def dry_run(inputs: Inputs, rank: int) -> Comparison:
    """Run a rank of a plan; return what it did beside what it should."""
    # torch takes seconds to import; wrong input is told at once.
    from executor.dry_run.observed import observed

    return compare(inputs, expected(inputs.program, rank), observed(inputs, rank))


def _job(name: str, inputs: Inputs, ranks: list[int]) -> dict[str, Any]:
    mesh, found = inputs.plan.mesh, []
    for rank in ranks or representatives(mesh):
        found.append({**dry_run(inputs, rank).to_json(), "coordinates": dict(mesh.coordinates(rank))})
        print(f"{name}: rank {rank} of {mesh.world_size} done", flush=True)
    return {"name": name, "world_size": mesh.world_size, "ranks": found}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="executor.dry_run", description=__doc__)
    parser.add_argument("--model", action="append", required=True, help="file or preset; may be repeated")
    parser.add_argument("--plan", action="append", required=True, help="file or preset; may be repeated")
    parser.add_argument("--topology", required=True, help="file or preset")
    parser.add_argument("--set", action="append", default=[], help="change a key: plan.tp=2")
    parser.add_argument("--rank", action="append", type=int, default=[], help="which ranks; absent: representatives")
    parser.add_argument("--out", required=True, help="JSON file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
