"""What torch's own parallel stack sends for a small transformer, beside what the Program of the same plan says.

``fully_shard`` (FSDP2), ``parallelize_module`` (DTensor) and ``torch.distributed.pipelining`` train one step of rank 0
on torch's fake process group, which moves nothing; every message is seen where it enters the process group. Prints the
table of ``docs/dry-run.md``.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.tensor import Placement, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn import functional
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from executor.dry_run.expected import expected
from simulator.load import load
from simulator.program.instructions import EXCHANGES, Instruction, Kind
from simulator.program.program import Program

BLOCKS, HIDDEN, HEADS, VOCABULARY, SEQUENCE, BATCH, MICROBATCHES = 4, 64, 8, 256, 64, 2, 4
SIZES = (
    f"model.num_hidden_layers={BLOCKS} model.hidden_size={HIDDEN} model.num_attention_heads={HEADS} "
    f"model.vocab_size={VOCABULARY} model.sequence_length={SEQUENCE} plan.microbatch_size={BATCH} plan.dtype=fp32"
).split()

functional_ops = torch.ops._c10d_functional
NAMES = {
    torch.ops.c10d.allreduce_.default: "all_reduce",
    torch.ops.c10d._allgather_base_.default: "all_gather",
    torch.ops.c10d._reduce_scatter_base_.default: "reduce_scatter",
    torch.ops.c10d.send.default: "send",
    torch.ops.c10d.recv_.default: "receive",
    functional_ops.all_reduce.default: "all_reduce",
    functional_ops.all_gather_into_tensor.default: "all_gather",
    functional_ops.reduce_scatter_tensor.default: "reduce_scatter",
}
"""Operations of torch's process groups, eager and functional, by the names of ours."""


class Seen(TorchDispatchMode):
    """Counts messages of floats and the bytes of their larger side.

    Ranks also agree by small integers on what comes: here everyone says yes, as pipelining's stages must to believe
    the shapes that they are given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.messages, self.bytes = Counter[str](), Counter[str]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        result = function(*args, **(kwargs or {}))
        if name := NAMES.get(function):
            sides = [side for arg in (*args, result) for side in (arg if isinstance(arg, list | tuple) else [arg])]
            tensors = [side for side in sides if isinstance(side, Tensor)]
            if not tensors[0].is_floating_point():
                tensors[0].fill_(1)
                return result
            self.messages[name] += 1
            self.bytes[name] += max(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


class Attention(nn.Module):
    """Queries, keys and values apart, so that DTensor cuts each by heads."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(HIDDEN, HIDDEN) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Attention of the heads that are here."""
        heads = [each(x).unflatten(-1, (-1, HIDDEN // HEADS)).transpose(1, 2) for each in (self.q, self.k, self.v)]
        context: Tensor = functional.scaled_dot_product_attention(*heads, is_causal=True)
        return self.out(context.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """A GPT block as plain torch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.attention = Attention()
        self.mlp = nn.Sequential(nn.Linear(HIDDEN, 4 * HIDDEN), nn.GELU(), nn.Linear(4 * HIDDEN, HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Embedding(nn.Module):
    """Rows of tokens and places."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, HIDDEN), nn.Parameter(torch.zeros(SEQUENCE, HIDDEN))

    def forward(self, ids: Tensor) -> Tensor:
        """Look up."""
        return self.tokens(ids) + self.places


class Head(nn.Module):
    """The last norm and the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.logits = nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, VOCABULARY, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.logits(self.norm(x))


def whole() -> nn.Sequential:
    """Return the model."""
    return nn.Sequential(Embedding(), *[Block() for _ in range(BLOCKS)], Head())


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def step(model: nn.Module) -> None:
    """Train one micro-batch."""
    ids = torch.zeros(BATCH, SEQUENCE, dtype=torch.int64)
    loss(model(ids), ids).backward()


def fsdp(world: int) -> None:
    """FSDP2: each block a unit, as are the embedding and the head, which stays whole between forward and backward."""
    mesh, model = init_device_mesh("cpu", (world,)), whole()
    for part in model:
        fully_shard(part, mesh=mesh, reshard_after_forward=part is not model[-1])
    fully_shard(model, mesh=mesh)
    step(model)


def tensor_parallel(world: int) -> None:
    """DTensor: columns, then rows; the rest whole on every rank."""
    mesh, model = init_device_mesh("cpu", (world,)), whole()
    for block in model[1:-1]:
        parallelize_module(block, mesh, regions(Replicate()))
    step(model)


def sequence_parallel(world: int) -> None:
    """DTensor: between the regions of the blocks each rank has a part of the sequence; blocks alone."""
    mesh, blocks = init_device_mesh("cpu", (world,)), whole()[1:-1]
    norms = {"norm1": SequenceParallel(), "norm2": SequenceParallel()}
    for block in blocks:
        parallelize_module(block, mesh, {**regions(Shard(1)), **norms})
    blocks(torch.zeros(BATCH, SEQUENCE // world, HIDDEN, requires_grad=True)).sum().backward()


def gathered(layout: Placement) -> PrepareModuleInput:
    """Make the input of a region whole."""
    return PrepareModuleInput(input_layouts=layout, desired_input_layouts=Replicate())


def regions(layout: Placement) -> dict[str, ParallelStyle]:
    """Return how a block is cut whose tensors between its regions lie so."""
    columns = dict.fromkeys(("attention.q", "attention.k", "attention.v", "mlp.0"), ColwiseParallel())
    rows = dict.fromkeys(("attention.out", "mlp.2"), RowwiseParallel(output_layouts=layout))
    return {"attention": gathered(layout), "mlp": gathered(layout), **columns, **rows}


def pipeline(schedule: type, world: int) -> None:
    """The first stage of a pipeline."""
    x = torch.zeros(BATCH, SEQUENCE, HIDDEN, requires_grad=True)
    ids = torch.zeros(BATCH, SEQUENCE, dtype=torch.int64)
    model = nn.Sequential(Embedding(), Block())
    stage = PipelineStage(model, 0, world, torch.device("cpu"), input_args=(ids,), output_args=(x,), output_grads=(x,))
    schedule(stage, MICROBATCHES, loss_fn=loss).step(ids.repeat(MICROBATCHES, 1))


CASES: dict[str, tuple[int, Callable[[int], None], tuple[str, ...]]] = {
    "FSDP2 fully_shard, 64 ranks": (64, fsdp, ("plan.dp=64", "plan.sharding=fsdp", "plan.num_microbatches=1")),
    "DTensor tp, 8 ranks": (8, tensor_parallel, ("plan.tp=8", "plan.vocab_parallel=false", "plan.num_microbatches=1")),
    "DTensor sequence parallel, blocks, 8 ranks": (
        8,
        sequence_parallel,
        ("plan.tp=8", "plan.sequence_parallel=true", "plan.num_microbatches=1"),
    ),
    "pipelining GPipe, 4 ranks": (
        4,
        lambda world: pipeline(ScheduleGPipe, world),
        ("plan.pp=4", "plan.schedule=gpipe", f"plan.num_microbatches={MICROBATCHES}"),
    ),
    "pipelining 1F1B, 4 ranks": (
        4,
        lambda world: pipeline(Schedule1F1B, world),
        ("plan.pp=4", f"plan.num_microbatches={MICROBATCHES}"),
    ),
}
"""What it is called: ranks, what trains a step of rank 0, and the plan."""


def compared(name: str) -> list[tuple[str, int, float, int, float]]:
    """Return for each operation messages and bytes of the Program, and those of torch."""
    world, train, plan = CASES[name]
    program = load("gpt-tiny", "local-cpu", "single", [f"topology.node.count={world}", *SIZES, *plan]).program
    ours, sizes = Counter[str](), Counter[str]()
    for instruction, entry in expected(program, 0).entries.items():
        counted = instruction.kind != Kind.BARRIER and (
            train is not sequence_parallel or _in_block(program, instruction)
        )
        for message in entry.messages if counted else ():
            ours[message.operation] += 1
            sizes[message.operation] += int(message.size)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    try:
        with Seen() as seen:
            train(world)
    finally:
        dist.destroy_process_group()
    return [
        (each, ours[each], sizes[each], seen.messages[each], seen.bytes[each]) for each in sorted(ours | seen.messages)
    ]


def _in_block(program: Program, instruction: Instruction) -> bool:
    """Return whether an exchange belongs to a block."""
    return instruction.kind in EXCHANGES["tp"] and program.segment(instruction).nodes[0].name.startswith("block")


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    print("| torch | operation | messages: program / torch | bytes: program / torch |\n|---|---|---|---|")
    for name in CASES:
        for operation, ours, sizes, theirs, bytes_ in compared(name):
            print(f"| {name} | {operation} | {ours} / {theirs} | {sizes:,} / {bytes_:,} |", flush=True)


if __name__ == "__main__":
    main()
