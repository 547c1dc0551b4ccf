"""Single-action mutations of a program, and what they mean by brute force: nothing here knows of ``verify``."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from simulator.program import Instruction, Kind, Program

Order = tuple[Instruction, ...]
Node = tuple[object, ...]

FORWARD = (Kind.F, Kind.TP_F)
BACKWARD = (Kind.B, Kind.I, Kind.TP_B)
TRANSFERS = {Kind.SEND_F: ("there", 0), Kind.RECV_F: ("there", -1), Kind.SEND_B: ("back", 0), Kind.RECV_B: ("back", 1)}
"""Direction of a message, and the step from the stage at this end of it to the sender's."""


class Mutation(NamedTuple):
    """One instruction of a rank dropped, repeated at another place, or swapped with another."""

    what: str
    rank: int
    position: int
    other: int = -1

    def applied(self, order: Order) -> Order:
        changed = list(order)
        match self.what:
            case "drop":
                del changed[self.position]
            case "duplicate":
                changed.insert(self.other, changed[self.position])
            case "swap":
                changed[self.position], changed[self.other] = changed[self.other], changed[self.position]
        return tuple(changed)

    def touched(self, order: Order) -> Order:
        places = (self.position, self.other) if self.what == "swap" else (self.position,)
        return tuple(order[place] for place in places)


class Oracle:
    """Who works on what, and which orders come to their ends, from the whole graph of a sound program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.golden = program.lists
        self.stages = program.stages
        self.ways = [[self._way(stage.index, kinds) for kinds in (FORWARD, BACKWARD)] for stage in self.stages]
        self.needs = [self._needs(order) for order in self.golden]
        self._ancestors = cache(self._find_ancestors)

    def accepts(self, mutation: Mutation) -> bool:
        """Whether the program still means the same training step, and ends."""
        rank = mutation.rank
        order = mutation.applied(self.golden[rank])
        if Counter(order) != Counter(self.golden[rank]):
            return False
        place = {each: position for position, each in enumerate(order)}
        if any(place[need] > place[each] for each in order for need in self.needs[rank][each]):
            return False
        graph: dict[Node, set[Node]] = {}
        for number, golden in enumerate(self.golden):
            lanes: dict[Node, Node] = {}
            for each in order if number == rank else golden:
                node, lane = (
                    self._node(each, number),
                    (each.kind, each.stage) if each.kind in TRANSFERS else (each.stream,),
                )
                graph.setdefault(node, set()).update(self._node(need, number) for need in self.needs[number][each])
                if lane in lanes:
                    graph[node].add(lanes[lane])
                lanes[lane] = node
        try:
            TopologicalSorter(graph).prepare()
        except CycleError:
            return False
        return True

    def mutations(self, rank: int, position: int) -> Iterator[Mutation]:
        """Yield everything that is done to one instruction."""
        order = self.golden[rank]
        yield Mutation("drop", rank, position)
        yield Mutation("duplicate", rank, position, position)
        yield Mutation("duplicate", rank, position, 0 if position > len(order) // 2 else len(order))
        for other in range(position + 1, len(order)):
            yield Mutation("swap", rank, position, other)
            # What comes after the first that works on it needs no swap to be told from it.
            if order[position] in self._ancestors(rank, order[other]):
                break

    def _node(self, instruction: Instruction, rank: int) -> Node:
        """One node for both ends of a message, for a barrier of all ranks, and for a sum over copies of a stage."""
        kind, stage, microbatch, part = instruction
        if kind in TRANSFERS:
            direction, step = TRANSFERS[kind]
            return direction, stage + step, microbatch
        if kind is Kind.REDUCE_GRAD and self.program.pipelines > 1:
            return kind, self.program.model_stage(stage), part
        return (kind,) if kind is Kind.BARRIER else (rank, *instruction)

    def _find_ancestors(self, rank: int, late: Instruction) -> frozenset[Instruction]:
        """Everything of the same rank that an instruction works on, directly or by way of others."""
        direct = self.needs[rank][late]
        return direct.union(*(self._ancestors(rank, each) for each in direct))

    def _needs(self, order: Order) -> dict[Instruction, frozenset[Instruction]]:
        alike: dict[int, list[Instruction]] = {}
        for each in order:
            alike.setdefault(each.microbatch, []).append(each)
        return {
            late: frozenset(
                early
                for early in (order if late.microbatch < 0 else [*alike[late.microbatch], *alike.get(-1, ())])
                if early != late and self._works_on(late, early)
            )
            for late in order
        }

    def _works_on(self, late: Instruction, early: Instruction) -> bool:
        """Whether an instruction works directly on what another of its rank made: training's data flow in words."""
        here, forward, backward = early.stage == late.stage, early.kind in FORWARD, early.kind in BACKWARD
        ways, returns = self.ways[late.stage]
        match late.kind:
            case Kind.BARRIER:
                return early.kind is not Kind.OPTIM and not self._is_after_update(early)
            case Kind.OPTIM:
                return early.kind is Kind.BARRIER or (here and not self._is_after_update(early))
            case Kind.GATHER_PARAM:
                return self._is_after_update(late) and here and early.kind is Kind.OPTIM
            case Kind.REDUCE_COPIES:
                return here and early.kind is Kind.REDUCE_GRAD and early.part == late.part
            case Kind.REDUCE_GRAD:
                segment = self.stages[late.stage].buckets[late.part].segment
                return here and early.kind in (Kind.B, Kind.W) and early.part == segment
            case Kind.F | Kind.TP_F:
                place = ways.index(late.part)
                received = here and early.kind is Kind.RECV_F and not place
                gathers = late.kind is Kind.F and here and early.kind is Kind.GATHER_PARAM
                if gathers and not self._is_after_update(early):
                    names = {node.name for node in self.stages[late.stage].segments[late.part].nodes}
                    return bool(names & {*self.stages[early.stage].buckets[early.part].nodes})
                return received or (forward and self._follows(early, late.stage, place - 1, forward=True))
            case Kind.B | Kind.I | Kind.TP_B:
                place = returns.index(late.part)
                received = here and early.kind is Kind.RECV_B and not place
                saved = here and early.kind is Kind.F and early.part == late.part and late.kind is not Kind.TP_B
                return received or saved or (backward and self._follows(early, late.stage, place - 1, forward=False))
            case Kind.W:
                return here and early.kind is Kind.I and early.part == late.part
            case Kind.SEND_F:
                return here and forward and early.part == ways[-1]
            case Kind.SEND_B:
                return here and backward and early.part == returns[-1]
        return False

    def _is_after_update(self, each: Instruction) -> bool:
        """Whether an instruction gathers what this step has updated, not what the step before has."""
        return each.kind is Kind.GATHER_PARAM and not self.program.plan.overlap_param_gather

    def _follows(self, early: Instruction, stage: int, place: int, *, forward: bool) -> bool:
        """Whether an instruction is at a place of a stage's way; before the first is its neighbour's last."""
        if place < 0:
            stage += -1 if forward else 1
        return 0 <= stage < len(self.stages) and (early.stage, early.part) == (
            stage,
            self.ways[stage][not forward][place],
        )

    def _way(self, stage: int, kinds: tuple[Kind, ...]) -> list[int]:
        """The parts of a stage in the order in which a sound program first does one of some kinds."""
        order = self.golden[self.program.placement[stage]]
        return list(dict.fromkeys(each.part for each in order if each.stage == stage and each.kind in kinds))
