"""A compiled plan: the stages, and each rank's ordered list of instructions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from simulator.model.graph import INPUT, LayerGraph
from simulator.model.layers import Exchange
from simulator.model.layers.base import FLOAT_BYTES, INDEX_BYTES, count
from simulator.plan.plan import Plan
from simulator.program.coded import Coded, coded
from simulator.program.instructions import (
    BACKWARD,
    COLLECTIVE_AXIS,
    ENDS,
    EXCHANGES_B,
    PARAMETER_GATHERS,
    STREAM_OF,
    UNSHARDS,
    Instruction,
    Kind,
    Stream,
)
from simulator.program.stage import Bucket, Segment, Stage
from simulator.program.vocabulary_passes import SHARED

T = TypeVar("T")

NORM_BYTES = 4.0
"""What ranks exchange before the update: the square of their gradients' norm, fp32, which also tells overflow."""


class Pass(StrEnum):
    """The lowering passes: what has run decides what a sound program must contain."""

    SEND_RECEIVE = "send_receive"
    SEGMENTS = "segments"
    RECOMPUTE = "recompute"
    UNSHARD = "unshard"
    REDUCE_GRAD = "reduce_grad"
    REDUCE_PARTIAL = "reduce_partial"
    OPTIMIZER = "optimizer"
    FETCH_PARAM = "fetch_param"
    GATHER_PARAM = "gather_param"


@dataclass(frozen=True, slots=True)
class Message:
    """What a communication instruction moves.

    Parameters
    ----------
    operation
        ``all_reduce``, ``all_gather``, ``reduce_scatter``, ``send`` or another that ``algorithms_of`` knows;
        ``to_host`` and ``from_host`` between a device and its host.
    size
        Bytes of each rank's buffer; where ranks hold parts, of all parts together.
    """

    operation: str
    size: float


@dataclass(frozen=True, kw_only=True)
class Program:
    """The same program for every rank that has the same place in the pipeline.

    Data- and tensor-parallel ranks run one list, so there are as many lists as pipeline ranks, however large the
    cluster. Peers and groups are found through the plan's mesh.

    Parameters
    ----------
    graph
        Layers of one tensor-parallel rank.
    plan, stages
        The plan and its stages.
    lists
        For each pipeline coordinate the instructions in issue order. Instructions of one lane run in this order;
        across lanes only the dependencies count (``dependencies.py``).
    placement
        Pipeline coordinate of each stage; ``SHARED`` where all ranks of a pipeline run it together.
    pipelines
        Replicas of the model in one pipeline. With 2, the second half of the stages is the second replica, which runs
        the upper half of the micro-batches from the last rank to the first.
    passes
        The lowering passes that have run.
    """

    graph: LayerGraph
    plan: Plan
    stages: tuple[Stage, ...]
    lists: tuple[tuple[Instruction, ...], ...]
    placement: tuple[int, ...]
    pipelines: int = 1
    passes: frozenset[Pass] = frozenset()
    _kept: dict[Hashable, Any] = field(init=False, default_factory=dict, repr=False, compare=False)

    def lowered(self, step: Pass, lists: Iterable[tuple[Instruction, ...]]) -> Program:
        """Return the program with the lists that a pass made of its own."""
        return replace(self, lists=tuple(lists), passes=self.passes | {step})

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what follows from the program alone, or from it and the key: made when it is first asked for."""
        if key not in self._kept:
            self._kept[key] = make()
        result: T = self._kept[key]
        return result

    def parts(self, stage: int) -> tuple[int, ...]:
        """Return the parts in which a stage computes: its segments, or -1, the whole, before they are cut."""
        return self.stages[stage].computing if Pass.SEGMENTS in self.passes else (-1,)

    def pipeline_rank(self, stage: int) -> int:
        """Return the pipeline coordinate that runs a stage."""
        return self.placement[stage]

    def stages_of(self, pipeline_rank: int) -> tuple[Stage, ...]:
        """Return the stages that a pipeline coordinate runs, with those that all share."""
        return tuple(stage for stage in self.stages if self.placement[stage.index] in (pipeline_rank, SHARED))

    def leaves(self, stage: int, name: str, pipeline_rank: int) -> bool:
        """Return whether a tensor goes over a border of a shared stage behind which a rank has nothing to run."""
        if self.placement[stage] != SHARED:
            return False
        its = self.stages[stage]
        other = stage + 1 if name in its.sends else stage - 1 if name in its.receives else stage
        return self.placement[other] not in (pipeline_rank, SHARED)

    @property
    def has_barrier(self) -> bool:
        """Whether all ranks of a pipeline meet before they update."""
        return self.plan.optimizer_barrier and self.plan.pp > 1

    def coded(self, pipeline_rank: int) -> Coded:
        """Return the list of a pipeline coordinate as numbers."""
        return self.keep(("coded", pipeline_rank), lambda: coded(self.lists[pipeline_rank]))

    @cached_property
    def stages_with_split_backward(self) -> frozenset[int]:
        """Stages of ranks that split backward anywhere: they are built for it, and run whole backwards as I and W."""
        works = [self.coded(rank).works for rank in range(len(self.lists))]
        split = (its for its in works if any(kind is Kind.W for kind, _, _ in its))
        return frozenset(stage for its in split for kind, stage, _ in its if kind in BACKWARD)

    @cached_property
    def alike(self) -> tuple[tuple[int, ...], ...]:
        """For each stage and segment a number that segments share whose layers do the same."""
        twins, numbers = self.graph.twins, dict[tuple[str, ...], int]()
        return tuple(
            tuple(
                numbers.setdefault(tuple(twins[node.name] for node in segment.nodes), len(numbers))
                for segment in stage.segments
            )
            for stage in self.stages
        )

    def model_stage(self, stage: int) -> int:
        """Return which part of the model a stage is: the same for its copies in all pipelines."""
        return stage % (len(self.stages) // self.pipelines)

    def runs(self, stage: int, microbatch: int) -> bool:
        """Return whether a micro-batch goes through a stage."""
        size = self.plan.num_microbatches // self.pipelines
        return microbatch // size == stage // (len(self.stages) // self.pipelines)

    def hands_over(self, stage: int, following: int) -> bool:
        """Return whether two stages of one pipeline are on one rank, so that nothing is sent between them.

        To and from shared stages nothing is sent either: what others need of it is exchanged inside them.
        """
        if SHARED in (self.placement[stage], self.placement[following]):
            return True
        if self.placement[stage] != self.placement[following]:
            return False
        length = len(self.stages) // self.pipelines
        return stage // length == following // length

    def instructions(self, rank: int) -> tuple[Instruction, ...]:
        """Return the list of a global rank."""
        return self.lists[self.plan.mesh.coordinate(rank, "pp")]

    def works(self, pipeline_rank: int) -> Counter[Instruction]:
        """Return how often a pipeline coordinate does each work in a step: all micro-batches do the same."""
        numbers = self.coded(pipeline_rank)
        times = np.bincount(numbers.codes, minlength=len(numbers.works)).tolist()
        works = (Instruction(kind, stage, -1, part) for kind, stage, part in numbers.works)
        return Counter(dict(zip(works, times, strict=True)))

    def kept_parameters(self, stage: int) -> int:
        """Return the scalars of a stage's parameters, with those that fill up buckets that are shared out."""
        its = self.stages[stage]
        if not self.plan.updates_parts:
            return its.num_parameters
        shared = {name for bucket in its.buckets for name in bucket.nodes}
        alone = sum(node.layer.num_parameters for node in its.nodes if node.name not in shared)
        return alone + sum(bucket.elements for bucket in its.buckets)

    def updated_parameters(self, stage: int) -> int:
        """Return the scalars that one rank updates for a stage: all, or its part of each bucket that is shared out."""
        its, plan = self.stages[stage], self.plan
        if not plan.updates_parts:
            return its.num_parameters
        shared = {name for bucket in its.buckets for name in bucket.nodes}
        alone = sum(node.layer.num_parameters for node in its.nodes if node.name not in shared)
        return alone + sum(self.part_of(bucket) for bucket in its.buckets)

    def is_replicated(self, bucket: Bucket) -> bool:
        """Return whether other ranks hold the parameters of a bucket, too, or other parts of them."""
        return self.plan.copies * self.plan.sharers_along(bucket.axis) * self.pipelines > 1

    def sums(self, bucket: Bucket) -> tuple[Kind, ...]:
        """Return what a bucket of gradients goes through before the update, one after the other."""
        sums = (bucket.reduction,) if self.is_replicated(bucket) else ()
        copies = (Kind.REDUCE_COPIES,) if self.plan.copies > 1 else ()
        return (*sums, *copies, *((Kind.GRAD_TO_HOST,) if self.plan.updates_on_host else ()))

    def part_of(self, bucket: Bucket) -> int:
        """Return the scalars of a bucket that one rank updates."""
        return bucket.elements // (self.plan.sharers_along(bucket.axis) if self.plan.updates_parts else 1)

    def segment(self, instruction: Instruction) -> Segment:
        """Return the segment that an F, B, I, W, R or an exchange works on."""
        return self.stages[instruction.stage].segments[instruction.part]

    def message(self, instruction: Instruction) -> Message:
        """Return what a communication instruction moves."""
        stage = self.stages[instruction.stage]
        match instruction.kind:
            case Kind.SEND_F | Kind.RECV_F:
                names = stage.sends if instruction.kind is Kind.SEND_F else stage.receives
                return Message("send", self._sent_bytes(names))
            case Kind.SEND_B | Kind.RECV_B:
                names = stage.gradients_out if instruction.kind is Kind.SEND_B else stage.gradients_in
                return Message("send", self._sent_bytes(names))
            case Kind.REDUCE_TP_GRAD:
                elements = sum(node.layer.num_parameters for node in stage.partial)
                return Message("all_reduce", float(elements * self.plan.itemsize))
            case Kind.BARRIER:
                return Message("all_reduce", NORM_BYTES)
            case Kind.REDUCE_GRAD | Kind.REDUCE_EXPERT_GRAD:
                operation = "reduce_scatter" if self.plan.updates_parts else "all_reduce"
                elements = stage.buckets[instruction.part].elements
                return Message(operation, float(elements * self.plan.gradient_itemsize))
            case Kind.REDUCE_COPIES:
                elements = stage.buckets[instruction.part].elements // self.plan.sharers
                return Message("all_reduce", float(elements * self.plan.gradient_itemsize))
            case Kind.GRAD_TO_HOST:
                elements = self.part_of(stage.buckets[instruction.part])
                return Message("to_host", float(elements * self.plan.gradient_itemsize))
            case Kind.PARAM_FROM_HOST:
                return Message("from_host", float(self.part_of(stage.buckets[instruction.part]) * self.plan.itemsize))
            case _ if instruction.kind in (*UNSHARDS.values(), *PARAMETER_GATHERS.values()):
                return Message("all_gather", float(stage.buckets[instruction.part].elements * self.plan.itemsize))
        if instruction.kind not in COLLECTIVE_AXIS:
            raise ValueError(f"{instruction} moves nothing between ranks")
        node, exchange = self.segment(instruction).nodes[0], self.segment(instruction).exchange
        assert exchange
        operation = exchange.backward if instruction.kind in EXCHANGES_B else exchange.forward
        # The larger side: what is gathered, or what is summed and shared out.
        size = max(self.tensor_bytes(node.inputs), self.tensor_bytes((node.name,)))
        again = instruction.kind in EXCHANGES_B and exchange.transient
        return Message(*exchange.sent(operation, 2 * size if again else size))

    @cached_property
    def collectives(self) -> Mapping[Stream, tuple[Message, ...]]:
        """What process groups move, by stream, each once."""
        works = dict.fromkeys(work for rank in range(len(self.lists)) for work in self.coded(rank).works)
        found: dict[Stream, dict[Message, None]] = {}
        for kind, stage, part in works:
            if kind in COLLECTIVE_AXIS:
                message = self.message(Instruction(kind, stage, part=part))
                found.setdefault(STREAM_OF[kind], {})[message] = None
        return {stream: tuple(messages) for stream, messages in found.items()}

    def peers(self, rank: int, instruction: Instruction) -> tuple[int, ...]:
        """Return the global ranks that take part in an instruction, ``rank`` included."""
        mesh = self.plan.mesh
        if instruction.kind in COLLECTIVE_AXIS:
            return self.group(rank, COLLECTIVE_AXIS[instruction.kind])
        if instruction.kind not in ENDS:
            return (rank,)
        _, step = ENDS[instruction.kind]
        other = mesh.move(rank, "pp", self.placement[instruction.stage + step])
        return (rank, other) if step > 0 else (other, rank)

    def group(self, rank: int, axis: str) -> tuple[int, ...]:
        """Return the ranks that meet in collectives of an axis, ``rank`` included.

        ``dp`` joins all replicas of a parameter: those along dp and cp. Of these, ``dp_shard`` joins neighbours that
        share one copy out, all unless the plan is ``hsdp``, and ``dp_replicate`` those that hold the same part of
        different copies; in the plan's ``expert_plane`` ``ep`` joins neighbours, which hold other experts each, and
        ``dp_expert`` the replicas of an expert. With two pipelines a stage's copies are on rank
        c and on rank p - 1 - c of the pipeline, and their gradients are summed over both.
        """
        mesh, ep, sharers = self.plan.mesh, self.plan.ep, self.plan.replicas // self.plan.copies
        if axis in mesh.axes and axis != "dp":
            return mesh.group(rank, axis)
        ranks = mesh.group(rank, *(self.plan.expert_plane if axis in ("ep", "dp_expert") else ("dp", "cp")))
        place = ranks.index(rank)
        if axis == "dp_replicate":
            return ranks[place % sharers :: sharers]
        if axis == "dp_shard":
            ranks = ranks[place - place % sharers :][:sharers]
        if axis == "ep":
            return ranks[place - place % ep :][:ep]
        if axis == "dp_expert":
            ranks = ranks[place % ep :: ep]
        if self.pipelines == 1:
            return ranks
        mirror = mesh.size("pp") - 1 - mesh.coordinate(rank, "pp")
        return tuple(sorted((*ranks, *(mesh.move(each, "pp", mirror) for each in ranks))))

    def groups(self, axis: str) -> list[tuple[int, ...]]:
        """Return all groups of an axis, each once."""
        return list(dict.fromkeys(self.group(rank, axis) for rank in range(self.plan.mesh.world_size)))

    def group_table(self, axis: str) -> NDArray[np.int64]:
        """Return all groups of an axis, one a row."""
        mesh, ep, copies = self.plan.mesh, self.plan.ep, self.plan.copies
        if axis in mesh.axes and axis != "dp":
            return mesh.group_table(axis)
        table = mesh.group_table(*(self.plan.expert_plane if axis in ("ep", "dp_expert") else ("dp", "cp")))
        if axis == "dp_replicate":
            return table.reshape(len(table), copies, -1).transpose(0, 2, 1).reshape(-1, copies)
        if axis == "dp_shard":
            table = table.reshape(len(table) * copies, -1)
        if axis == "ep":
            return table.reshape(-1, ep)
        if axis == "dp_expert":
            size = table.shape[1] // ep
            table = table.reshape(-1, size, ep).transpose(0, 2, 1).reshape(-1, size)
        if self.pipelines == 1:
            return table
        places = mesh.along("pp")[table[:, 0]]
        mirrored = table + (mesh.size("pp") - 1 - 2 * places[:, None]) * mesh.stride("pp")
        return np.sort(np.concatenate([table, mirrored], axis=1)[places < mesh.size("pp") // 2], axis=1)

    def tensor_bytes(self, names: Iterable[str]) -> float:
        """Return the bytes of one micro-batch of the named tensors."""
        plan = self.plan
        return float(sum(plan.microbatch_size * count(self.graph.shape(name)) * self._itemsize(name) for name in names))

    def parts_of_message(self, name: str) -> int:
        """Return in how many parts, one from each tensor-parallel rank, a tensor goes to the next stage, and back."""
        layer = self.graph.by_name[name].layer if name in self.graph.by_name else None
        return layer.num_ranks if isinstance(layer, Exchange) and layer.in_parts else 1

    def _sent_bytes(self, names: Iterable[str]) -> float:
        """Return the bytes that one rank sends of one micro-batch of the named tensors."""
        return sum(self.tensor_bytes((name,)) / self.parts_of_message(name) for name in names)

    def _itemsize(self, name: str) -> int:
        if name == INPUT and self.graph.integer_input:
            return INDEX_BYTES
        return FLOAT_BYTES if name in self.graph.fp32 else self.plan.itemsize
