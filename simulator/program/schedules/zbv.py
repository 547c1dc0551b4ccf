"""ZB-V: two stages per rank in a V, so that the rank of the first stage has the loss too."""

from __future__ import annotations

from simulator.program.instructions import Instruction
from simulator.program.schedules.base import Options, Schedule, ScheduleKind, v_placement
from simulator.program.schedules.tape import Tape


def zbv(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the schedule, torch's order. Its I is the paper's B.

    Every rank holds at most p micro-batches, and idles nothing between its first and last action if F = I = W; a
    barrier after the step costs (p - 1) F / 2.
    """
    orders = tuple(_order(rank, num_ranks, num_microbatches) for rank in range(num_ranks))
    return Schedule(v_placement(num_ranks), orders)


def _order(rank: int, num_ranks: int, num_microbatches: int) -> tuple[Instruction, ...]:
    # The pattern needs 2 p - 1 micro-batches; with fewer, those that do not exist are left out of it.
    full = max(2 * num_ranks - 1, num_microbatches)
    down, up = rank, num_ranks - rank
    tape = Tape((rank, 2 * num_ranks - 1 - rank))
    tape.play("F0", 2 * up - 1)
    tape.play("F1 F0", down)
    tape.play("F1 I1 W1", up)
    tape.play("F0 I0 W0 F1 I1 W1", full - 2 * num_ranks + 1 + down)
    tape.play("I0 W0 F1 I1 W1", up - 1)
    tape.play("I0 I1", down)
    tape.play("I0 W0", up)
    tape.play("W1", down)
    tape.play("W0", down)
    return tuple([action for action in tape.order if action.microbatch < num_microbatches])


KIND = ScheduleKind(
    name="zbv",
    build=zbv,
    description="two stages in a V: no bubble inside the step if F = I = W, in 1F1B's memory",
    source="Qi et al. 2023, arXiv 2401.10241, section 6",
    stages_per_rank=2,
    usual_stages_per_rank=2,
    placement="v",
)
