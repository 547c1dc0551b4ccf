"""1F1B (PipeDream-flush, arXiv 2006.09503; DAPPLE, arXiv 2007.01045): backward as soon as there is one."""

from __future__ import annotations

from simulator.program.instructions import Instruction, Kind


def one_f_one_b(num_stages: int, num_microbatches: int) -> tuple[tuple[Instruction, ...], ...]:
    """Return each rank's order.

    Stage s runs min(m, p - s) forwards to warm up, then alternates backward and forward, then drains. GPipe's bubble,
    but at most min(m, p - s) micro-batches in flight.
    """
    return tuple(_order(stage, num_stages, num_microbatches) for stage in range(num_stages))


def _order(stage: int, num_stages: int, num_microbatches: int) -> tuple[Instruction, ...]:
    warmup = min(num_microbatches, num_stages - stage)
    actions = [Instruction(Kind.F, stage, microbatch) for microbatch in range(warmup)]
    for microbatch in range(num_microbatches):
        actions.append(Instruction(Kind.B, stage, microbatch))
        if warmup + microbatch < num_microbatches:
            actions.append(Instruction(Kind.F, stage, warmup + microbatch))
    return tuple(actions)
