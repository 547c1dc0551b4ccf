"""Zero bubble by rule instead of by listing: F, I and W placed greedily under a memory limit, with given times."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

from simulator.program.instructions import Kind
from simulator.program.schedules.base import Options, Schedule, ScheduleKind, Times
from simulator.program.schedules.greedy import Rules, cost, greedy
from simulator.program.schedules.zb_h1 import zb_h1
from simulator.program.schedules.zb_h2 import zb_h2

TICKS = 1 << 20
"""Times are rounded to this part of F + I + W, so that actions which end together are seen together."""

SAMPLE = 3
"""Micro-batches per rank on which the candidates compete; the best of them is then made in full."""

HOPS = (1.0, 1.2)
"""Slopes that are tried of what may lack its I, in those that use the limit up: more helps where W need little."""

PATIENCE = (0.0, 0.5, 1.0)
"""Parts of W that a rank would wait for something better."""


def zb_auto(num_ranks: int, num_microbatches: int, options: Options) -> Schedule:
    """Return the shortest of a few greedy orders and of those of ZB-H1 and ZB-H2 that keep to the limit.

    As in the paper, a grid of rules is tried and the best is kept; it is not an optimum. With a barrier after the step
    its end counts first, without one the idle time between a rank's first and last action. Sends take no time here.
    """
    limit = num_ranks if options.activation_limit is None else options.activation_limit
    ticks = _ticks(options.times)
    sample = min(num_microbatches, SAMPLE * num_ranks)

    def rank(build: Callable[[int], Schedule]) -> tuple[int, int]:
        end, idle = cost(build(sample), ticks)
        return (end, idle) if options.barrier else (idle, end)

    return min(_candidates(num_ranks, limit, options.weight_share, ticks), key=rank)(num_microbatches)


def _candidates(
    num_ranks: int, limit: float, weight_share: float, ticks: dict[Kind, int]
) -> list[Callable[[int], Schedule]]:
    """Return functions from a number of micro-batches to a schedule that keeps to the limit."""
    hop = (limit - 1) / max(1, num_ranks - 1)
    grid = product(HOPS, PATIENCE)
    rules = [
        Rules(ticks=ticks, limit=limit, weight_share=weight_share, hop=slope * hop, patience=int(part * ticks[Kind.W]))
        for slope, part in grid
    ]
    listed = [(zb_h1, num_ranks), (zb_h2, 2 * num_ranks - 1)]
    return [
        *(partial(build, num_ranks, options=Options()) for build, held in listed if held <= limit),
        *(partial(greedy, num_ranks, rules=rule) for rule in rules),
    ]


def _ticks(times: Times) -> dict[Kind, int]:
    seconds = {Kind.F: times.forward, Kind.I: times.input_grad, Kind.W: times.weight_grad}
    return {kind: max(1, round(TICKS * time / sum(seconds.values()))) for kind, time in seconds.items()}


KIND = ScheduleKind(
    name="zb_auto",
    limits_activations=True,
    build=zb_auto,
    description="F, I and W placed greedily under activation_limit, for given times",
    source="after Qi et al. 2023, arXiv 2401.10241, section 3",
)
