"""The closed set of instructions and their text form, torch pipelining's letters.

``2F0`` is the forward of stage 2 for micro-batch 0; ``2F0.3`` its segment 3 alone; ``3SEND_F1`` sends stage 3's output
of micro-batch 1 onwards; ``1REDUCE_GRAD.0`` all-reduces gradient bucket 0 of stage 1.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple


class Stream(StrEnum):
    """Queues of a rank that run side by side; instructions of one stream run in order."""

    COMPUTE = "compute"
    TP = "tp"
    CP = "cp"
    EP = "ep"
    DP = "dp"
    DP_EXPERT = "dp_expert"
    DP_GATHER = "dp_gather"
    DP_EXPERT_GATHER = "dp_expert_gather"
    DP_REPLICATE = "dp_replicate"
    PP = "pp"
    PP_ROOT = "pp_root"
    TO_HOST = "to_host"
    FROM_HOST = "from_host"
    SEND_F = "send_f"
    RECV_F = "recv_f"
    SEND_B = "send_b"
    RECV_B = "recv_b"


class Kind(StrEnum):
    """What an instruction does."""

    F = "F"
    """Forward."""
    B = "B"
    """Full backward: input and weight gradients."""
    I = "I"  # noqa: E741 - the field's letter
    """Backward of the inputs alone: the gradient that the stage before waits for."""
    W = "W"
    """Backward of the weights alone: nothing waits for it but the optimizer."""
    R = "R"
    """Forward again, of a segment that kept nothing for its backward."""
    TP_F = "TP_F"
    """Exchange a tensor with the tensor-parallel group in forward."""
    TP_B = "TP_B"
    """Exchange the gradient of a tensor with the tensor-parallel group."""
    TP_R = "TP_R"
    """Exchange a tensor with the tensor-parallel group again, in a forward that runs again."""
    CP_F = "CP_F"
    """Exchange a tensor with the context-parallel group in forward."""
    CP_B = "CP_B"
    """Exchange the gradient of a tensor with the context-parallel group."""
    CP_R = "CP_R"
    """Exchange a tensor with the context-parallel group again, in a forward that runs again."""
    EP_F = "EP_F"
    """Exchange a tensor with the expert-parallel group in forward."""
    EP_B = "EP_B"
    """Exchange the gradient of a tensor with the expert-parallel group."""
    EP_R = "EP_R"
    """Exchange a tensor with the expert-parallel group again, in a forward that runs again."""
    PP_F = "PP_F"
    """Sum a tensor over the pipeline's ranks, which share a stage."""
    PP_B = "PP_B"
    """Hand the gradient of such a sum from the rank that has it to all."""
    PP_R = "PP_R"
    """Sum a tensor over the pipeline's ranks again, in a forward that runs again."""
    ROOT_F = "ROOT_F"
    """Hand a tensor from the rank that has it to all ranks of the pipeline, which share the next stage."""
    ROOT_B = "ROOT_B"
    """Sum its gradient over the pipeline's ranks."""
    ROOT_R = "ROOT_R"
    """Hand a tensor to all ranks of the pipeline again, in a forward that runs again."""
    SEND_F = "SEND_F"
    """Send a stage's outputs to the next stage."""
    RECV_F = "RECV_F"
    """Receive a stage's inputs from the stage before."""
    SEND_B = "SEND_B"
    """Send the gradients of a stage's inputs to the stage before."""
    RECV_B = "RECV_B"
    """Receive the gradients of a stage's outputs from the next stage."""
    GATHER_PARAM = "GATHER_PARAM"
    """Gather a bucket of parameters of which each data-parallel replica has updated its part."""
    GATHER_EXPERT_PARAM = "GATHER_EXPERT_PARAM"
    """Gather a bucket of experts' parameters of which each of their replicas has updated its part."""
    UNSHARD = "UNSHARD"
    """Gather the parameters of a block from the data-parallel replicas."""
    UNSHARD_EXPERT = "UNSHARD_EXPERT"
    """Gather the parameters of a block's experts from those replicas that hold the same experts."""
    RESHARD = "RESHARD"
    """Let go of the gathered parameters but for the rank's own part."""
    REDUCE_GRAD = "REDUCE_GRAD"
    """Sum a bucket of parameter gradients over the data-parallel replicas; of sharded ones, each its own part."""
    REDUCE_EXPERT_GRAD = "REDUCE_EXPERT_GRAD"
    """Sum a bucket of experts' gradients over those replicas that hold the same experts."""
    REDUCE_COPIES = "REDUCE_COPIES"
    """Sum a rank's part of a bucket of gradients over the groups that each share out a copy of the parameters."""
    GRAD_TO_HOST = "GRAD_TO_HOST"
    """Move a rank's part of a bucket of summed gradients to host memory, where parameters are updated."""
    PARAM_FROM_HOST = "PARAM_FROM_HOST"
    """Bring the rank's part of a bucket of parameters back that its host has updated."""
    REDUCE_TP_GRAD = "REDUCE_TP_GRAD"
    """Sum gradients over the tensor-parallel ranks that each saw a part of the sequence."""
    BARRIER = "BARRIER"
    """Wait for all ranks of the pipeline: nobody updates before all gradients are known to be good."""
    OPTIM = "OPTIM"
    """Update the stage's parameters."""


STREAM_OF = {
    Kind.F: Stream.COMPUTE,
    Kind.B: Stream.COMPUTE,
    Kind.I: Stream.COMPUTE,
    Kind.W: Stream.COMPUTE,
    Kind.R: Stream.COMPUTE,
    Kind.OPTIM: Stream.COMPUTE,
    Kind.TP_F: Stream.TP,
    Kind.TP_B: Stream.TP,
    Kind.TP_R: Stream.TP,
    Kind.CP_F: Stream.CP,
    Kind.CP_B: Stream.CP,
    Kind.CP_R: Stream.CP,
    Kind.EP_F: Stream.EP,
    Kind.EP_B: Stream.EP,
    Kind.EP_R: Stream.EP,
    # What one rank hands to all must not queue behind sums, for which all ranks have to compute first.
    Kind.PP_F: Stream.PP,
    Kind.PP_B: Stream.PP_ROOT,
    Kind.PP_R: Stream.PP,
    Kind.ROOT_F: Stream.PP_ROOT,
    Kind.ROOT_B: Stream.PP,
    Kind.ROOT_R: Stream.PP_ROOT,
    Kind.GATHER_PARAM: Stream.DP_GATHER,
    Kind.GATHER_EXPERT_PARAM: Stream.DP_EXPERT_GATHER,
    Kind.UNSHARD: Stream.DP_GATHER,
    Kind.UNSHARD_EXPERT: Stream.DP_EXPERT_GATHER,
    Kind.RESHARD: Stream.COMPUTE,
    Kind.REDUCE_GRAD: Stream.DP,
    Kind.REDUCE_EXPERT_GRAD: Stream.DP_EXPERT,
    Kind.REDUCE_COPIES: Stream.DP_REPLICATE,
    Kind.GRAD_TO_HOST: Stream.TO_HOST,
    Kind.PARAM_FROM_HOST: Stream.FROM_HOST,
    Kind.REDUCE_TP_GRAD: Stream.TP,
    Kind.BARRIER: Stream.PP,
    Kind.SEND_F: Stream.SEND_F,
    Kind.RECV_F: Stream.RECV_F,
    Kind.SEND_B: Stream.SEND_B,
    Kind.RECV_B: Stream.RECV_B,
}

FORWARD = (Kind.F, Kind.R)
"""Kinds that run forward, for the first time or again."""

BACKWARD = (Kind.B, Kind.I, Kind.W)
"""Kinds that run backward, whole or in part."""

EXCHANGES = {
    "tp": (Kind.TP_F, Kind.TP_B, Kind.TP_R),
    "cp": (Kind.CP_F, Kind.CP_B, Kind.CP_R),
    "ep": (Kind.EP_F, Kind.EP_B, Kind.EP_R),
    "pp": (Kind.PP_F, Kind.PP_B, Kind.PP_R),
    "pp_root": (Kind.ROOT_F, Kind.ROOT_B, Kind.ROOT_R),
}
"""For each mesh axis that layers are split over the kinds of its exchanges: forward, backward, forward again."""

EXCHANGES_F, EXCHANGES_B, EXCHANGES_R = (frozenset(kinds) for kinds in zip(*EXCHANGES.values(), strict=True))
"""Exchanges forward, backward, and forward again, of any axis."""

SHARED_EXCHANGES = frozenset((*EXCHANGES["pp"], *EXCHANGES["pp_root"]))
"""Exchanges of stages that all ranks of a pipeline share."""

HOST_LINK = (Stream.TO_HOST, Stream.FROM_HOST)
"""Streams of copies between a device and its host, each direction its own."""

ALONE = (Stream.COMPUTE, *HOST_LINK)
"""Streams whose instructions no other rank takes part in."""

MESSAGES = (Stream.SEND_F, Stream.RECV_F, Stream.SEND_B, Stream.RECV_B)
"""Streams of messages between stages."""

Lane = tuple[Stream, int]
"""One queue of a rank: messages of each stage have their own, so that none waits behind another stage's."""

COLLECTIVE_AXIS = {
    Kind.TP_F: "tp",
    Kind.TP_B: "tp",
    Kind.TP_R: "tp",
    Kind.CP_F: "cp",
    Kind.CP_B: "cp",
    Kind.CP_R: "cp",
    Kind.EP_F: "ep",
    Kind.EP_B: "ep",
    Kind.EP_R: "ep",
    Kind.PP_F: "pp",
    Kind.PP_B: "pp",
    Kind.PP_R: "pp",
    Kind.ROOT_F: "pp",
    Kind.ROOT_B: "pp",
    Kind.ROOT_R: "pp",
    Kind.GATHER_PARAM: "dp_shard",
    Kind.GATHER_EXPERT_PARAM: "dp_expert",
    Kind.UNSHARD: "dp_shard",
    Kind.UNSHARD_EXPERT: "dp_expert",
    Kind.REDUCE_GRAD: "dp_shard",
    Kind.REDUCE_EXPERT_GRAD: "dp_expert",
    Kind.REDUCE_COPIES: "dp_replicate",
    Kind.REDUCE_TP_GRAD: "tp",
    Kind.BARRIER: "pp",
}
"""Axis whose group takes part in a collective: of the mesh, or one that ``Program.group`` knows beside."""

REDUCTIONS = {"dp": Kind.REDUCE_GRAD, "dp_expert": Kind.REDUCE_EXPERT_GRAD}
"""What sums gradients with replicas along an axis; under ``hsdp`` over those that share one copy, to begin with."""

SUMS = (*REDUCTIONS.values(), Kind.REDUCE_COPIES, Kind.GRAD_TO_HOST)
"""Kinds that a bucket of gradients goes through on its way to the update: sums, and the host link."""

PARAMETER_GATHERS = {"dp": Kind.GATHER_PARAM, "dp_expert": Kind.GATHER_EXPERT_PARAM}
"""What gathers updated parameters with replicas along an axis."""

UNSHARDS = {"dp": Kind.UNSHARD, "dp_expert": Kind.UNSHARD_EXPERT}
"""What gathers sharded parameters with replicas along an axis."""

STREAMS_OF_GROUPS = {
    Stream.TP: "tp",
    Stream.CP: "cp",
    Stream.EP: "ep",
    Stream.DP: "dp_shard",
    Stream.DP_EXPERT: "dp_expert",
    Stream.DP_GATHER: "dp_shard",
    Stream.DP_EXPERT_GATHER: "dp_expert",
    Stream.DP_REPLICATE: "dp_replicate",
    Stream.PP: "pp",
    Stream.PP_ROOT: "pp",
}
"""Streams of collectives, and the axis whose groups use them."""

SENDS = {Kind.SEND_F: (Kind.RECV_F, +1), Kind.SEND_B: (Kind.RECV_B, -1)}
"""For each send, the receive that meets it and the step from the sender's stage to the receiver's."""

RECEIVES = {receive: (send, -step) for send, (receive, step) in SENDS.items()}
"""For each receive, the send that meets it and the step from the receiver's stage to the sender's."""

ENDS = SENDS | RECEIVES
"""For each send and each receive, the other end and the step to its stage."""

_TEXT = re.compile(r"(?P<stage>\d+)(?P<kind>[A-Z_]+)(?P<microbatch>\d+)?(?:\.(?P<part>\d+))?")


class Instruction(NamedTuple):
    """One instruction of one rank.

    Parameters
    ----------
    kind
        What it does.
    stage
        Pipeline stage that it belongs to.
    microbatch
        Micro-batch, -1 where it has none; for UNSHARD and RESHARD, how often their bucket was gathered before.
    part
        Segment of the stage (F, B, R, exchanges) or bucket (reductions, gatherings, RESHARD); -1 means the whole.
    """

    kind: Kind
    stage: int
    microbatch: int = -1
    part: int = -1

    def __str__(self) -> str:
        microbatch = self.microbatch if self.microbatch >= 0 else ""
        part = f".{self.part}" if self.part >= 0 else ""
        return f"{self.stage}{self.kind.value}{microbatch}{part}"

    @property
    def stream(self) -> Stream:
        """Queue that runs it."""
        return STREAM_OF[self.kind]

    @property
    def lane(self) -> Lane:
        """Queue of its rank that runs it, in order."""
        stream = STREAM_OF[self.kind]
        return (stream, self.stage if stream in MESSAGES else -1)

    def work(self) -> Instruction:
        """Return the instruction without its micro-batch: all micro-batches do the same work."""
        return Instruction(self.kind, self.stage, -1, self.part)

    @classmethod
    def parse(cls, text: str) -> Instruction:
        """Return the instruction that ``text`` stands for.

        Raises
        ------
        ValueError
            The text is not an instruction.

        Examples
        --------
        >>> str(Instruction.parse("2F0.3"))
        '2F0.3'
        """
        match = _TEXT.fullmatch(text)
        if not match or match["kind"] not in Kind.__members__:
            raise ValueError(f"{text!r} is not an instruction; write e.g. 2F0, 2F0.3, 3SEND_F1 or 1REDUCE_GRAD.0")
        numbers = (int(match[key]) if match[key] else -1 for key in ("microbatch", "part"))
        return cls(Kind[match["kind"]], int(match["stage"]), *numbers)
