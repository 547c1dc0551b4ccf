"""Breadth-first pipeline parallelism (Lamy-Poirier 2022, arXiv 2211.05953): every stage takes all micro-batches."""

from __future__ import annotations

from simulator.program.instructions import Kind
from simulator.program.schedules.alternate import actions
from simulator.program.schedules.base import Options, Schedule, ScheduleKind, loop_placement


def looped_bfs(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule, backwards last micro-batch first as in torch.

    Bubble (p - 1) (F + B) / v if m >= p; all m micro-batches are in flight at once. A stage's parameters are needed
    in two unbroken stretches, which is what sharded data parallelism wants.
    """
    num_chunks = options.num_stages_per_rank
    turns = [(chunk, microbatch) for chunk in range(num_chunks) for microbatch in range(num_microbatches)]
    orders = []
    for rank in range(num_ranks):
        stages = range(rank, num_ranks * num_chunks, num_ranks)
        orders.append((*actions(Kind.F, stages, turns), *actions(Kind.B, stages, reversed(turns))))
    return Schedule(loop_placement(num_ranks, num_chunks), tuple(orders))


KIND = ScheduleKind(
    name="looped_bfs",
    build=looped_bfs,
    description="GPipe over v stages per rank: a v times smaller bubble, m micro-batches in flight",
    source="Lamy-Poirier 2022, arXiv 2211.05953",
    stages_per_rank="any",
    usual_stages_per_rank=2,
)
