"""All pipeline schedules side by side, computed: every one runs on free links with stages of equal times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules import SCHEDULES, Options, Schedule, Times

FIGURES = ("bubble_fraction", "device_window_bubble", "peak_microbatches", "messages")
"""What is computed of a schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFigures:
    """What a schedule costs; times in units of one stage's forward on a rank that runs one stage.

    Parameters
    ----------
    name, description, source, placement
        From the registry.
    num_stages_per_rank
        Stages that each rank ran.
    bubble_fraction
        Mean idle share of the step, all ranks ending together.
    device_window_bubble
        Mean idle share between a rank's own first and last action: the zero-bubble papers' measure.
    peak_microbatches
        Largest number of micro-batches whose activations a rank holds, in units of a whole rank's share.
    messages
        Messages between ranks for each micro-batch, forward and backward together.
    problem
        Why it does not exist for these numbers; empty if it does.
    """

    name: str
    description: str
    source: str
    placement: str
    num_stages_per_rank: int = 1
    bubble_fraction: float = 0.0
    device_window_bubble: float = 0.0
    peak_microbatches: float = 0.0
    messages: float = 0.0
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values; None for figures of a schedule that does not exist."""
        unknown = FIGURES if self.problem else ()
        return {name: None if name in unknown else getattr(self, name) for name in self.__dataclass_fields__}


def compare_schedules(
    num_ranks: int,
    num_microbatches: int,
    times: Times,
    virtual: int | None = None,
    activation_limit: float | None = None,
) -> Iterator[ScheduleFigures]:
    """Yield the figures of every schedule that needs no file.

    Parameters
    ----------
    num_ranks, num_microbatches, times
        What to run.
    virtual
        Stages a rank of the schedules that leave that open; None means what they usually take.
    activation_limit
        Micro-batches in flight on a rank, for the schedules that can be told.
    """
    for kind in SCHEDULES.values():
        if kind.name == "custom":
            continue
        number = {"one": 1, "any": virtual or kind.usual_stages_per_rank, 2: 2}[kind.stages_per_rank]
        found = ScheduleFigures(
            name=kind.name,
            description=kind.description,
            source=kind.source,
            placement=kind.placement,
            num_stages_per_rank=number,
        )
        problem = kind.check(num_ranks, num_microbatches, number)
        if problem:
            yield replace(found, problem="; ".join(problem))
        else:
            options = Options(num_stages_per_rank=number, activation_limit=activation_limit, times=times)
            yield _measured(found, kind.build(num_ranks, num_microbatches, options), times)


def _measured(found: ScheduleFigures, schedule: Schedule, times: Times) -> ScheduleFigures:
    """Return the figures of a schedule, beside what is known of it."""
    num_ranks = len(schedule.orders)
    # Times are those of a rank's whole share of the model: a rank that runs v stages of one replica splits them in v.
    stages = len(schedule.placement) // num_ranks / schedule.pipelines
    durations = {
        Kind.F: times.forward / stages,
        Kind.I: times.input_grad / stages,
        Kind.W: times.weight_grad / stages,
        Kind.B: (times.input_grad + times.weight_grad) / stages,
    }
    ends = play(schedule, durations)
    step = max(ends.values())
    busy = [sum(durations[each.kind] for each in order) for order in schedule.orders]
    windows = [ends[o[-1]] - (ends[o[0]] - durations[o[0].kind]) for o in schedule.orders]
    return replace(
        found,
        bubble_fraction=1 - sum(busy) / len(busy) / step,
        device_window_bubble=1 - sum(b / w for b, w in zip(busy, windows, strict=True)) / len(busy),
        peak_microbatches=max(_peak(order) for order in schedule.orders) / stages,
        messages=2.0 * sum(a != b for a, b in _borders(schedule)) / schedule.pipelines,
    )


def play(schedule: Schedule, durations: dict[Kind, float]) -> dict[Instruction, float]:
    """Return when each action ends if messages are free and every rank runs its order as early as it can."""
    ends: dict[Instruction, float] = {}
    heads = [0] * len(schedule.orders)
    clocks = [0.0] * len(schedule.orders)
    last = len(schedule.placement) // schedule.pipelines
    moved = True
    while moved:
        moved = False
        for rank, order in enumerate(schedule.orders):
            while heads[rank] < len(order):
                action = order[heads[rank]]
                needs = [_end(ends, need) for need in _needs(action, last)]
                if None in needs:
                    break
                clocks[rank] = max([clocks[rank], *(need for need in needs if need is not None)])
                clocks[rank] += durations[action.kind]
                ends[action] = clocks[rank]
                heads[rank] += 1
                moved = True
    return ends


def _needs(action: Instruction, last: int) -> list[tuple[Instruction, ...]]:
    """Return what must end before an action; of each tuple any one."""
    kind, stage, microbatch, _ = action
    first = stage % last == 0
    final = stage % last == last - 1
    if kind is Kind.F:
        return [] if first else [(Instruction(Kind.F, stage - 1, microbatch),)]
    if kind is Kind.W:
        return [(Instruction(Kind.I, stage, microbatch),)]
    needs: list[tuple[Instruction, ...]] = [(Instruction(Kind.F, stage, microbatch),)]
    if not final:
        needs.append(tuple(Instruction(each, stage + 1, microbatch) for each in (Kind.B, Kind.I)))
    return needs


def _end(ends: dict[Instruction, float], choices: tuple[Instruction, ...]) -> float | None:
    return next((ends[choice] for choice in choices if choice in ends), None)


def _peak(order: tuple[Instruction, ...]) -> int:
    held = peak = 0
    for action in order:
        held += {Kind.F: 1, Kind.B: -1, Kind.W: -1}.get(action.kind, 0)
        peak = max(peak, held)
    return peak


def _borders(schedule: Schedule) -> list[tuple[int, int]]:
    """Return the ranks on both sides of each border between stages of one pipeline."""
    last = len(schedule.placement) // schedule.pipelines
    return [
        (schedule.placement[stage], schedule.placement[stage + 1])
        for stage in range(len(schedule.placement) - 1)
        if (stage + 1) % last
    ]
