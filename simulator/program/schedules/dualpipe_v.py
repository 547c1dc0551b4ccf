"""DualPipeV: DualPipe folded into a V, so that it needs no second copy of the parameters."""

from __future__ import annotations

from simulator.program.instructions import Instruction
from simulator.program.schedules.base import Options, Problem, Schedule, ScheduleKind, v_placement
from simulator.program.schedules.tape import Tape


def dualpipe_v(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule, torch's order; pairs of F and B that may run as one stand beside each other, F first.

    A rank holds at most p + 1/2 micro-batches. If F = I = W the bubble is p - 1 forwards, were a pair to take F + B.
    """
    orders = tuple(_order(rank, num_ranks, num_microbatches) for rank in range(num_ranks))
    return Schedule(v_placement(num_ranks), orders)


def _order(rank: int, num_ranks: int, num_microbatches: int) -> tuple[Instruction, ...]:
    below = num_ranks - 1 - rank
    tape = Tape((rank, 2 * num_ranks - 1 - rank))
    tape.play("F0", 2 * below)
    tape.play("F0 F1", rank + 1)
    tape.play("I1 W1 F1", below)
    tape.play("F0 B1 F1 B0", num_microbatches - 2 * num_ranks + rank + 1)
    tape.play("B1 F1 B0", below)
    # The second half of the drain splits its backwards and keeps the weight gradients for the idle time at the end.
    tape.play("B1 B0", (rank + 1) // 2)
    tape.play("B1 I0", (rank + 1) % 2)
    tape.play("I1 I0", (rank + 1) // 2)
    tape.play("W I0", below)
    tape.play("W", rank + 1)
    return tuple(tape.order)


def _rule(num_ranks: int, num_microbatches: int, num_stages_per_rank: int) -> Problem | None:
    if num_microbatches >= 2 * num_ranks:
        return None
    return (
        f"dualpipe_v needs num_microbatches >= 2 * pp = {2 * num_ranks}, not {num_microbatches}",
        f"use {2 * num_ranks} micro-batches" + (f" or pp {num_microbatches // 2}" if num_microbatches > 1 else ""),
    )


KIND = ScheduleKind(
    name="dualpipe_v",
    build=dualpipe_v,
    description="two directions in a V, forwards paired with backwards",
    source="DeepSeek-AI 2024, arXiv 2412.19437; github.com/deepseek-ai/DualPipe",
    stages_per_rank=2,
    usual_stages_per_rank=2,
    placement="v",
    rule=_rule,
)
