"""What makes the actions of a schedule one training step, and one that ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from simulator.errors import ProgramError
from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules.base import Schedule
from simulator.program.table import table

NEW, FORWARD, HALF, WHOLE, SPLIT, FOREIGN = range(6)
"""How far a micro-batch has come in a stage; FOREIGN ones belong to another replica of the stages."""

DONE: dict[int, tuple[Kind, ...]] = {
    NEW: (),
    FORWARD: (Kind.F,),
    HALF: (Kind.F, Kind.I),
    WHOLE: (Kind.F, Kind.B),
    SPLIT: (Kind.F, Kind.I, Kind.W),
}
"""What has brought a micro-batch there."""

STEPS = {Kind.F: {NEW: FORWARD}, Kind.B: {FORWARD: WHOLE}, Kind.I: {FORWARD: HALF}, Kind.W: {HALF: SPLIT}}
"""Where an action takes a micro-batch, from where it may."""

NEEDS = {Kind.B: Kind.F, Kind.I: Kind.F, Kind.W: Kind.I}
"""What must come before, on the same rank."""

EXCLUDES = {Kind.F: (), Kind.B: (Kind.I, Kind.W), Kind.I: (Kind.B,), Kind.W: (Kind.B,)}
"""A backward is whole or split, not both."""

ARRIVED = -1
"""Mark of an action that is done; until then there stands which rank waits for it, counted from 1."""


class Fault(NamedTuple):
    """What is wrong with a schedule.

    Parameters
    ----------
    rank, position
        The cell; the end of the rank's order if something is missing.
    message, hint
        The rule, and one way out.
    missing
        Nothing stands where something should.
    """

    rank: int
    position: int
    message: str
    hint: str
    missing: bool = False


def verify_schedule(schedule: Schedule, num_microbatches: int) -> None:
    """Prove that a schedule is one training step that ends.

    Every stage takes every micro-batch (of its replica) forward once and then backward once, by B or by I and W, on its
    own rank; neighbouring stages take them in the same order, for messages do not overtake each other; and ranks that
    wait for each other's results all come to their ends.

    Raises
    ------
    ProgramError
        With the faulty cell, and what others are part of a deadlock.
    """
    found = faults(schedule, num_microbatches)
    if found:
        rank, position, *_ = found[0]
        lines = (f"pipeline rank {each.rank}, action {each.position}: {each.message}" for each in found)
        raise ProgramError("\n".join([*lines, table(schedule.orders, rank, position)]))


def faults(schedule: Schedule, num_microbatches: int) -> list[Fault]:
    """Return all misplaced actions; or else what is missing, stage by stage; or out of turn; or a circle of ranks."""
    states = _fresh_states(schedule, num_microbatches)
    return (
        list(_misplaced(schedule, num_microbatches, states))
        or [fault for stage, row in enumerate(states) for fault in _missing(schedule, stage, row)]
        or list(_crossed(schedule))
        or list(_deadlock(schedule, num_microbatches))
    )


def _fresh_states(schedule: Schedule, num_microbatches: int) -> list[bytearray]:
    """Return for each stage the states of all micro-batches."""
    depth, share = len(schedule.placement) // schedule.pipelines, num_microbatches // schedule.pipelines
    states = []
    for stage in range(len(schedule.placement)):
        row = bytearray([FOREIGN]) * num_microbatches
        begin = stage // depth * share
        row[begin : begin + share] = bytes([NEW]) * share
        states.append(row)
    return states


def _misplaced(schedule: Schedule, num_microbatches: int, states: list[bytearray]) -> Iterator[Fault]:
    """Yield what is wrong with actions that are there; leave in ``states`` how far the right ones lead."""
    steps = {kind: [step.get(state, NEW) for state in range(FOREIGN + 1)] for kind, step in STEPS.items()}
    for rank, order in enumerate(schedule.orders):
        rows = {stage: states[stage] for stage, home in enumerate(schedule.placement) if home == rank}
        for position, action in enumerate(order):
            kind, stage, microbatch, _ = action
            row = rows.get(stage)
            if row is None or kind not in steps or not 0 <= microbatch < num_microbatches:
                yield Fault(rank, position, *_stranger(schedule, rank, action, num_microbatches))
            elif step := steps[kind][row[microbatch]]:
                row[microbatch] = step
            else:
                yield Fault(rank, position, *_out_of_turn(action, row[microbatch]))


def _stranger(schedule: Schedule, rank: int, action: Instruction, num_microbatches: int) -> tuple[str, str]:
    """Return why an action has no business on a rank."""
    stage, last = action.stage, len(schedule.placement) - 1
    if action.kind not in STEPS:
        return f"{action} is not an F, B, I or W of a micro-batch", "sends, receives and the rest are added later"
    if not 0 <= stage <= last:
        return f"{action} is of stage {stage}", f"stages are numbered from 0 to {last}"
    home = schedule.placement[stage]
    if home != rank:
        text = f"{action} is in the row of rank {rank}, but stage {stage} in that of rank {home}"
        return text, "keep a stage in one row"
    legal = f"num_microbatches is {num_microbatches}: use 0 to {num_microbatches - 1}"
    return f"{action} is of micro-batch {action.microbatch}", legal


def _out_of_turn(action: Instruction, state: int) -> tuple[str, str]:
    """Return why an action may not come when a micro-batch is in a state."""
    if state == FOREIGN:
        return f"{action} is of a micro-batch that another replica of the stages runs", "share the micro-batches out"
    if action.kind in DONE[state]:
        return f"{action} comes twice", "remove one"
    twin = next((kind for kind in EXCLUDES[action.kind] if kind in DONE[state]), None)
    if twin:
        return f"{action} comes beside {action._replace(kind=twin)}", "a backward is B, or I and W"
    need = action._replace(kind=NEEDS[action.kind])
    return f"{action} comes without {need} before it", f"put {need} before it in the row"


def _missing(schedule: Schedule, stage: int, row: bytearray) -> Iterator[Fault]:
    """Yield the first thing that a stage lacks, given that nothing it has is wrong."""
    if row.count(WHOLE) + row.count(SPLIT) + row.count(FOREIGN) == len(row):
        return
    state = min(state for state in row if state < WHOLE)
    kind, rule = {
        NEW: (Kind.F, "every stage takes every micro-batch forward"),
        FORWARD: (Kind.B, "every forward needs its B, or I and W"),
        HALF: (Kind.W, "every I needs its W"),
    }[state]
    rank = schedule.placement[stage]
    lost = Instruction(kind, stage, row.index(state))
    yield Fault(rank, len(schedule.orders[rank]) - 1, f"{lost} is missing", rule, missing=True)


def _crossed(schedule: Schedule) -> Iterator[Fault]:
    """Yield where neighbouring stages of two ranks take micro-batches in different orders: messages do not overtake."""
    turns: dict[tuple[bool, int], list[int]] = defaultdict(list)
    for order in schedule.orders:
        for kind, stage, microbatch, _ in order:
            if kind is not Kind.W:
                turns[kind is Kind.F, stage].append(microbatch)
    depth = len(schedule.placement) // schedule.pipelines
    for stage in range(len(schedule.placement)):
        rank, before = schedule.placement[stage], schedule.placement[stage - 1]
        for forward in (True, False) if stage % depth and rank != before else ():
            here, there = turns[forward, stage], turns[forward, stage - 1]
            if here != there:
                early, late = next(pair for pair in zip(here, there, strict=True) if pair[0] != pair[1])
                phase = "forward" if forward else "backward"
                message = (
                    f"stage {stage} takes micro-batch {early} {phase} before {late}, but stage {stage - 1} on rank "
                    f"{before} takes {late} before {early}"
                )
                order = schedule.orders[rank]
                position = next(
                    place
                    for place, (kind, *where, _) in enumerate(order)
                    if where == [stage, early] and kind is not Kind.W and (kind is Kind.F) == forward
                )
                yield Fault(rank, position, f"{order[position]} is out of turn: {message}", "messages cannot overtake")


def _deadlock(schedule: Schedule, num_microbatches: int) -> Iterator[Fault]:
    """Yield the actions of a circle of ranks that wait for each other, if the ranks cannot all come to their ends."""
    heads = _run(schedule, num_microbatches)
    stuck = [rank for rank, order in enumerate(schedule.orders) if heads[rank] < len(order)]
    circle: list[int] = []
    rank = stuck[0] if stuck else -1
    while stuck and rank not in circle:
        circle.append(rank)
        rank = schedule.placement[_source(schedule, heads, rank).stage]
    for waiting in circle[circle.index(rank) :] if stuck else ():
        action, need = schedule.orders[waiting][heads[waiting]], _source(schedule, heads, waiting)
        giver = schedule.placement[need.stage]
        first = schedule.orders[giver][heads[giver]]
        behind = "comes later in its row" if giver == waiting else f"stands behind {first} in the row of rank {giver}"
        yield Fault(waiting, heads[waiting], f"{action} waits for {need}, which {behind}: a deadlock", "swap the two")


def _source(schedule: Schedule, heads: list[int], rank: int) -> Instruction:
    """Return what a stuck rank waits for: the action of a neighbouring stage that gives what its next one works on."""
    action = schedule.orders[rank][heads[rank]]
    kinds = (Kind.F,) if action.kind is Kind.F else (Kind.B, Kind.I)
    stage = action.stage + (-1 if action.kind is Kind.F else +1)
    giver = schedule.placement[stage]
    wanted = {Instruction(kind, stage, action.microbatch) for kind in kinds}
    return next(each for each in schedule.orders[giver][heads[giver] :] if each in wanted)


def _run(schedule: Schedule, num_microbatches: int) -> list[int]:
    """Run without clocks, every rank as far as its neighbours let it; return the position that each comes to."""
    depth = len(schedule.placement) // schedule.pipelines
    there = [[0] * num_microbatches for _ in schedule.placement]
    back = [[0] * num_microbatches for _ in schedule.placement]
    given = [ARRIVED] * num_microbatches
    before = [there[stage - 1] if stage % depth else given for stage in range(len(there))]
    after = [back[stage + 1] if (stage + 1) % depth else given for stage in range(len(back))]
    heads = [0] * len(schedule.orders)
    ready = list(range(len(heads)))
    while ready:
        rank = ready.pop()
        order = schedule.orders[rank]
        for position in range(heads[rank], len(order)):
            kind, stage, microbatch, _ = order[position]
            if kind is Kind.W:
                continue
            own, source = (there[stage], before[stage]) if kind is Kind.F else (back[stage], after[stage])
            if source[microbatch] != ARRIVED:
                source[microbatch] = rank + 1
                heads[rank] = position
                break
            if own[microbatch]:
                ready.append(own[microbatch] - 1)
            own[microbatch] = ARRIVED
        else:
            heads[rank] = len(order)
    return heads
