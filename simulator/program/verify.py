"""The executable specification of a Program.

``verify`` proves, for any cluster size at once (all ranks of one pipeline coordinate run one list), that

* every stage runs forward and backward of every micro-batch exactly once, all segments, forward first, and those that
  kept nothing run forward again before their backward;
* each send meets its receive, and both ends of a channel agree on the order;
* every bucket is reduced once, after its last backward, or once in each micro-batch where no whole gradients are kept,
  and every stage is updated once, after its buckets and after the barrier, if there is one;
* sharded parameters are gathered when they are read, and let go of before they are gathered again; those updated in
  parts are gathered once, after the update or before they are read;
* ranks that share a stage meet in the same order;
* nothing deadlocks, with rendezvous semantics: a send ends only when its receive is posted.

It holds for the programs between two passes as well: each must contain what the passes bring in that have run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from simulator.errors import ProgramError
from simulator.program.coded import Work
from simulator.program.flow import FLOWS, WHOLE, returned_by, sent_by
from simulator.program.instructions import (
    BACKWARD,
    ENDS,
    EXCHANGES_R,
    PARAMETER_GATHERS,
    REDUCTIONS,
    SENDS,
    SHARED_EXCHANGES,
    SUMS,
    Instruction,
    Kind,
    Stream,
)
from simulator.program.program import Pass, Program
from simulator.program.progress import find_deadlock, partner_of
from simulator.program.sharding import GATHERS, fault, read_early, summed_after
from simulator.program.stage import Stage
from simulator.program.table import table

MAKES = {Kind.SEND_F: Kind.F, Kind.SEND_B: Kind.B}
"""What makes the tensor that is sent."""


def verify(program: Program) -> None:
    """Raise ProgramError with the table of all ranks, the faulty cell marked, unless the program is sound."""
    for rank in range(len(program.lists)):
        _check_complete(program, rank)
        _check_sharding(program, rank)
        _check_ends(program, rank)
    _check_channels(program)
    _check_meetings(program)
    _check_copies(program)
    if stuck := find_deadlock(program):
        rank, instruction = stuck
        partner = f" for {partner_of(instruction)}" if instruction.kind in ENDS else ""
        _fail(program, rank, instruction, f"waits{partner} for ever: a deadlock")


def _microbatch_work(program: Program, rank: int, microbatch: int, split: frozenset[tuple[int, int]]) -> Iterator[Work]:
    """Yield what a pipeline rank must do for a micro-batch, in no particular order.

    Backward of the parts of stages in ``split`` comes as I and W, that of the others as B.
    """
    for stage in program.stages_of(rank):
        if not program.runs(stage.index, microbatch):
            continue
        for part in program.parts(stage.index):
            backward = (Kind.I, Kind.W) if (stage.index, part) in split else (Kind.B,)
            yield from ((kind, stage.index, part) for kind in (Kind.F, *backward))
        if Pass.SEGMENTS in program.passes:
            yield from _segment_work(program, stage)
        if Pass.REDUCE_GRAD in program.passes and program.plan.reduces_each:
            yield from _sums(program, stage)
        if Pass.SEND_RECEIVE not in program.passes:
            continue
        before = stage.receives and not program.hands_over(stage.index, stage.index - 1)
        after = stage.sends and not program.hands_over(stage.index, stage.index + 1)
        borders = {
            Kind.RECV_F: before,
            Kind.SEND_F: after,
            Kind.RECV_B: after and stage.gradients_in,
            Kind.SEND_B: before and stage.gradients_out,
        }
        yield from ((kind, stage.index, -1) for kind, names in borders.items() if names)


def _segment_work(program: Program, stage: Stage) -> Iterator[Work]:
    """Yield what the segments of a stage add to its forward and backward for a micro-batch."""
    for part, segment in enumerate(stage.segments):
        exchanges = (segment.forward, segment.backward) if segment.exchange else ()
        again = (segment.again,) if Pass.RECOMPUTE in program.passes else ()
        yield from ((kind, stage.index, part) for kind in (*exchanges, *again) if kind)


def _step_work(program: Program, rank: int) -> Iterator[Work]:
    """Yield what a pipeline rank must do once a step."""
    updates = Pass.OPTIMIZER in program.passes
    if updates and program.has_barrier:
        yield Kind.BARRIER, 0, -1
    for stage in program.stages_of(rank):
        if Pass.REDUCE_GRAD in program.passes and not program.plan.reduces_each:
            yield from _sums(program, stage)
        if Pass.REDUCE_PARTIAL in program.passes and stage.partial:
            yield Kind.REDUCE_TP_GRAD, stage.index, -1
        if updates:
            yield Kind.OPTIM, stage.index, -1
        if Pass.FETCH_PARAM in program.passes and program.plan.updates_on_host:
            yield from ((Kind.PARAM_FROM_HOST, stage.index, part) for part in range(len(stage.buckets)))
        if Pass.GATHER_PARAM in program.passes and program.plan.gathers_updates:
            gathered = ((part, each) for part, each in enumerate(stage.buckets) if program.is_replicated(each))
            yield from ((PARAMETER_GATHERS[each.axis], stage.index, part) for part, each in gathered)


def _sums(program: Program, stage: Stage) -> Iterator[Work]:
    """Yield what sums the gradients of a stage."""
    yield from ((kind, stage.index, part) for part, each in enumerate(stage.buckets) for kind in program.sums(each))


def _check_complete(program: Program, rank: int) -> None:
    """Each micro-batch is worked on completely and in order. Most do the same; that is looked at once."""
    itineraries: dict[int, list[Work]] = {index: [] for index in (*range(program.plan.num_microbatches), -1)}
    gathers = GATHERS if Pass.UNSHARD in program.passes else ()
    for kind, stage, microbatch, part in program.lists[rank]:
        if kind in gathers:
            continue
        itineraries.setdefault(microbatch, []).append((kind, stage, part))
    once = list(_step_work(program, rank))
    sound: set[tuple[bool, bool, int, tuple[Work, ...]]] = set()
    pipeline_share = program.plan.num_microbatches // program.pipelines
    for microbatch, works in itineraries.items():
        known = microbatch < program.plan.num_microbatches
        if (itinerary := (known, microbatch < 0, microbatch // pipeline_share, tuple(works))) not in sound:
            split = _split_parts(program, works)
            each = list(_microbatch_work(program, rank, microbatch, split))
            _check_itinerary(program, rank, microbatch, works, (once if microbatch < 0 else each) if known else [])
            sound.add(itinerary)


def _split_parts(program: Program, works: Iterable[Work]) -> frozenset[tuple[int, int]]:
    """Return the parts of stages whose backward comes as I and W: all of a stage, or some beside sums."""
    found = {(stage, part) for kind, stage, part in works if kind in (Kind.I, Kind.W)}
    if not program.plan.tp_overlap:
        named = {stage for stage, _ in found}
        known = (stage.index for stage in program.stages if stage.index in named)
        found = {(stage, part) for stage in known for part in program.parts(stage)}
    return frozenset(found)


def _check_itinerary(program: Program, rank: int, microbatch: int, works: list[Work], expected: list[Work]) -> None:
    """Everything is there once, and nothing comes before what it needs."""
    found, belonging = Counter(works), set(expected)

    def named(work: Work) -> Instruction:
        kind, stage, part = work
        return Instruction(kind, stage, microbatch, part)

    for work in works:
        if work not in belonging:
            _fail(program, rank, named(work), "does not belong on this rank")
        if found[work] > 1:
            _fail(program, rank, named(work), f"appears {found[work]} times, must appear once")
    for work in expected:
        if work not in found:
            _fail(program, rank, named(work), "is missing")
    place = {work: index for index, work in enumerate(works)}
    for index, work in enumerate(works):
        for before in _precedes(program, *work):
            if place.get(before, -1) > index:
                _fail(program, rank, named(work), f"comes before {named(before)}, which it needs")


def _precedes(program: Program, kind: Kind, stage: int, part: int) -> Iterator[Work]:
    """Yield what must stand earlier in the same list, for the same micro-batch: data flow, and the model's order."""
    match kind:
        case Kind.SEND_F:
            yield from sent_by(program, stage)
        case Kind.SEND_B:
            yield from returned_by(program, stage)
        case Kind.W:
            yield Kind.I, stage, part
        case _ if kind in SUMS:
            yield from summed_after(program, kind, stage, part)
        case _ if kind in PARAMETER_GATHERS.values() and not program.plan.overlap_param_gather:
            yield Kind.PARAM_FROM_HOST, stage, part
        case _ if kind in FLOWS:
            yield from FLOWS[kind](program, stage, part)
            yield from _in_order(program, kind, stage, part)


def _in_order(program: Program, kind: Kind, stage: int, part: int) -> Iterator[Work]:
    """Yield the computation before this one in the model's order, and the forwards whose results backward reads."""
    if part == WHOLE:
        yield from [(Kind.F, stage, part)] if kind in (Kind.B, Kind.I) else []
        return
    its = program.stages[stage]
    segment = its.segments[part]
    if kind is Kind.R or kind in EXCHANGES_R:
        yield from [(segment.forward, stage, part)] if segment.forward else []
        yield from [(Kind.F, stage, its.last_readers[part])] if part in its.last_readers else []
    if segment.exchange:
        return
    place = its.computing.index(part)
    if kind is Kind.F and place:
        yield Kind.F, stage, its.computing[place - 1]
    elif kind is Kind.R and place and its.segments[its.computing[place - 1]].unit == segment.unit:
        yield Kind.R, stage, its.computing[place - 1]
    elif kind in (Kind.B, Kind.I):
        yield Kind.R, stage, part
        following = its.computing[place + 1 : place + 2]
        backwards = ((each, stage, after) for after in following for each in (Kind.B, Kind.I))
        yield from backwards if following else [(Kind.F, stage, part)]


def _check_sharding(program: Program, rank: int) -> None:
    """Parameters are whole when they are read, and nothing is gathered twice; where nothing is sharded, nothing is."""
    if Pass.UNSHARD not in program.passes:
        return
    instructions = program.lists[rank]
    for instruction, times in Counter(each for each in instructions if each.kind in GATHERS).items():
        stage = program.stages[instruction.stage] if instruction.stage < len(program.stages) else None
        here = program.plan.is_sharded and stage in program.stages_of(rank)
        if not stage or not here or not 0 <= instruction.part < len(stage.buckets):
            _fail(program, rank, instruction, "does not belong on this rank")
        if times > 1:
            _fail(program, rank, instruction, f"appears {times} times, must appear once")
    found = fault(program, instructions) if program.plan.is_sharded else None
    if Pass.GATHER_PARAM in program.passes and program.plan.gathers_updates:
        found = found or read_early(program, instructions)
    if found:
        _fail(program, rank, *found)


def _check_ends(program: Program, rank: int) -> None:
    """A bucket is reduced after its last backward; the update of a stage comes after all its work."""
    instructions = program.lists[rank]
    gathers = () if program.plan.overlap_param_gather else PARAMETER_GATHERS.values()
    followers = (Kind.OPTIM, Kind.PARAM_FROM_HOST, *gathers)
    last = {(kind, stage, part): position for position, (kind, stage, _, part) in enumerate(instructions)}
    barrier = last.get((Kind.BARRIER, 0, -1), -1)
    for position in last.values():
        late = instructions[position]
        if position < barrier and late.kind in followers:
            _fail(program, rank, late, f"comes before {instructions[barrier]}, which it needs")
        if position > barrier >= 0 and late.kind not in followers:
            _fail(program, rank, instructions[barrier], f"comes before {late}, which it needs")
    for stage in program.stages_of(rank):
        update = last.get((Kind.OPTIM, stage.index, -1), -1)
        for position in last.values():
            late = instructions[position]
            if late.stage != stage.index or update < 0:
                continue
            if position > update and late.kind not in followers:
                _fail(program, rank, instructions[update], f"comes before {late}, which it needs")
            if position < update and late.kind in followers:
                _fail(program, rank, late, f"comes before {instructions[update]}, which it needs")
        partial = last.get((Kind.REDUCE_TP_GRAD, stage.index, -1), -1)
        for position in last.values():
            late = instructions[position]
            if position > partial >= 0 and late.stage == stage.index and late.kind in (*BACKWARD, *SUMS):
                _fail(program, rank, instructions[partial], f"comes before {late}, which it needs")
        for part, bucket in enumerate(stage.buckets):
            for kind in program.sums(bucket):
                early = last.get((kind, stage.index, part), -1)
                for need in summed_after(program, kind, stage.index, part):
                    if last.get(need, -1) > early >= 0:
                        late = instructions[last[need]]
                        _fail(program, rank, instructions[early], f"comes before {late}, which it needs")


def _check_channels(program: Program) -> None:
    """Both ends of each channel name the same messages in the same order."""
    orders: dict[tuple[Kind, int], list[int]] = defaultdict(list)
    firsts = [(WHOLE, stage.computing[0]) for stage in program.stages]
    for instructions in program.lists:
        for kind, stage, microbatch, part in instructions:
            if part in firsts[stage]:
                orders[Kind.B if kind is Kind.I else kind, stage].append(microbatch)
    for (kind, stage), sent in list(orders.items()):
        if kind in SENDS:
            receive, step = SENDS[kind]
            received = orders[receive, stage + step]
            if sent != received:
                # Blame the end that does not send as it computes; if both do, or neither, the one that receives.
                own = kind if sent != orders[MAKES[kind], stage] else receive
                _fail_channel(program, (own, stage if own is kind else stage + step), sent, received)


def _fail_channel(program: Program, end: tuple[Kind, int], sent: list[int], received: list[int]) -> None:
    """Name the message that is out of its turn at the given end of a channel, and one that it should change with."""
    kind, stage = end
    mine, others = (sent, received) if kind in SENDS else (received, sent)
    early, late = next(pair for pair in zip(mine, others, strict=True) if pair[0] != pair[1])
    # Either one message stands too early, or one too late; if they are neighbours, nobody can tell.
    is_late = [each for each in mine if each != late] == [each for each in others if each != late]
    moved, other = (late, early) if is_late else (early, late)
    partner, step = ENDS[kind]
    first, second = (Instruction(partner, stage + step, microbatch) for microbatch in (late, early))
    peer = program.pipeline_rank(stage + step)
    message = f"is out of turn with {Instruction(kind, stage, other)}: rank {peer} has {first} before {second}"
    _fail(program, program.pipeline_rank(stage), Instruction(kind, stage, moved), message)


def _check_meetings(program: Program) -> None:
    """Ranks that share stages exchange in the same order on each stream, or each would wait for another exchange."""
    for stream in (Stream.PP, Stream.PP_ROOT):
        orders = [
            [each for each in order if each.kind in SHARED_EXCHANGES and each.stream is stream]
            for order in program.lists
        ]
        for rank, order in enumerate(orders):
            for ours, first in zip(order, orders[0], strict=True):
                if ours != first:
                    _fail(program, rank, ours, f"is out of turn with {first}: rank 0 has {first} there")


def _check_copies(program: Program) -> None:
    """Ranks that hold copies of the same stages reduce their gradients in the same order."""
    if program.pipelines == 1:
        return

    def bucket(reduction: Instruction) -> tuple[int, int]:
        return program.model_stage(reduction.stage), reduction.part

    reductions = [[each for each in order if each.kind in REDUCTIONS.values()] for order in program.lists]
    for rank, ours in enumerate(reductions[: len(reductions) // 2]):
        theirs = reductions[-1 - rank]
        if (buckets := list(map(bucket, ours))) != list(map(bucket, theirs)):
            # Either could be right; the pass goes by the model's order.
            ends = (rank, ours), (len(reductions) - 1 - rank, theirs)
            (wrong, mine), (peer, others) = reversed(ends) if buckets == sorted(buckets) else ends
            our, their = next(pair for pair in zip(mine, others, strict=True) if bucket(pair[0]) != bucket(pair[1]))
            due = next(each for each in mine if bucket(each) == bucket(their))
            _fail(program, wrong, our, f"is out of turn with {due}: rank {peer} has {their} there")


def _fail(program: Program, rank: int, instruction: Instruction, message: str) -> None:
    """Raise; where an instruction is missing, the end of its rank's list is marked."""
    instructions = program.lists[rank]
    places = [position for position, each in enumerate(instructions) if each == instruction]
    position = places[-1] if places else len(instructions) - 1
    where = f"pipeline rank {rank}, instruction {position}: {instruction}"
    raise ProgramError(f"{where} {message}\n{table(program.lists, rank, position)}")
