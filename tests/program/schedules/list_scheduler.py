"""Runs a schedule on paper: equal stages, given times, free links. Knows nothing of how the schedule was made."""

from dataclasses import dataclass

from simulator.program import Instruction, Kind
from simulator.program.schedules import Schedule


@dataclass(frozen=True)
class Outcome:
    bubble: float
    """Makespan less the work of a rank."""
    windows: tuple[float, ...]
    """Idle time of each rank between its first and its last action."""
    peaks: tuple[float, ...]
    """Most activations that each rank holds, in whole-rank micro-batches; they die at the end of W or of a whole B."""


def run(
    schedule: Schedule,
    num_microbatches: int,
    forward: float,
    input_grad: float,
    weight_grad: float,
    pairs_are_one: bool = False,
) -> Outcome:
    """Times are of a rank's whole share; a stage takes its part of it.

    With ``pairs_are_one`` an F and the B of another stage right after it run as one action, as DualPipe has it: they
    begin when both can, and what they give is there when both are done.
    """
    depth = len(schedule.placement) // schedule.pipelines
    per_rank = depth / len(schedule.orders)
    backward = input_grad + weight_grad
    times = {Kind.F: forward, Kind.I: input_grad, Kind.W: weight_grad, Kind.B: backward}
    done: dict[tuple[str, int, int], float] = {}
    clocks = [0.0] * len(schedule.orders)
    starts = [float("inf")] * len(schedule.orders)
    left = [list(reversed(grouped(order, pairs_are_one))) for order in schedule.orders]
    while any(left):
        before = len(done)
        for rank, groups in enumerate(left):
            while groups:
                needs = [need for action in groups[-1] for need in inputs(action, depth)]
                if any(need not in done for need in needs):
                    break
                start = max([clocks[rank], *(done[need] for need in needs)])
                clocks[rank] = start + sum(times[action.kind] for action in groups[-1]) / per_rank
                starts[rank] = min(starts[rank], start)
                for kind, stage, microbatch, _ in groups.pop():
                    assert schedule.placement[stage] == rank
                    done["I" if kind is Kind.B else kind.value, stage, microbatch] = clocks[rank]
        assert len(done) > before, f"deadlock before {[groups[-1] for groups in left if groups]}"
    work = num_microbatches * (forward + backward)
    return Outcome(
        bubble=max(clocks) - work,
        windows=tuple(end - start - work for start, end in zip(starts, clocks, strict=True)),
        peaks=tuple(peak(order) / per_rank for order in schedule.orders),
    )


def grouped(order: tuple[Instruction, ...], pairs: bool) -> list[tuple[Instruction, ...]]:
    groups: list[tuple[Instruction, ...]] = []
    for action in order:
        previous = groups[-1][-1] if groups else None
        if pairs and previous and action.kind is Kind.B and previous.kind is Kind.F and action.stage != previous.stage:
            groups[-1] = (previous, action)
        else:
            groups.append((action,))
    return groups


def inputs(action: Instruction, depth: int) -> list[tuple[str, int, int]]:
    kind, stage, microbatch, _ = action
    if kind is Kind.F:
        return [] if stage % depth == 0 else [("F", stage - 1, microbatch)]
    if kind is Kind.W:
        return [("I", stage, microbatch)]
    return [("F", stage, microbatch)] if stage % depth == depth - 1 else [("I", stage + 1, microbatch)]


def peak(order: tuple[Instruction, ...]) -> int:
    """A rank runs one action at a time, so what it holds follows from its order alone."""
    held = most = 0
    for action in order:
        held += {Kind.F: 1, Kind.I: 0, Kind.B: -1, Kind.W: -1}[action.kind]
        most = max(most, held)
    return most
