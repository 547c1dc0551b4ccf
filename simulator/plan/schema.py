"""YAML keys of a plan file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.inputs.fields import Bytes, Name, NonNegativeInt, PositiveInt, PositiveNumber, StrictModel
from simulator.plan.frameworks import NONE
from simulator.units import parse_bytes


class OptimizerSchema(StrictModel):
    """Update rule."""

    kind: Literal["sgd", "momentum", "adam"] = "sgd"
    learning_rate: PositiveNumber = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


class PlanSchema(StrictModel):
    """How to train: sizes of the mesh, the schedule, the batch, precision and optimizer."""

    name: Name
    description: str = ""
    dp: Annotated[
        PositiveInt | Literal["auto"], Field(description="replicas; auto = what tp, pp and cp leave over")
    ] = "auto"
    tp: PositiveInt = 1
    pp: PositiveInt = 1
    cp: Annotated[PositiveInt, Field(description="context-parallel ranks, which share each sequence")] = 1
    ep: Annotated[
        PositiveInt, Field(description="expert-parallel ranks, neighbours among dp x cp, or dp x cp x tp: expert_tp")
    ] = 1
    expert_tp: Annotated[
        PositiveInt | None,
        Field(description="tensor-parallel ranks that share an expert: tp if absent; or 1, whole experts on each"),
    ] = None
    expert_dispatch: Annotated[
        Literal["all_to_all", "deep_ep"],
        Field(
            description="how rows reach their experts: one for each expert of a token, or, as DeepEP and HybridEP send "
            "them, one for each node and rank that has some"
        ),
    ] = "all_to_all"
    context_parallel: Annotated[
        Literal["ring", "all_to_all", "all_gather"],
        Field(
            description="how attention meets other cp ranks' keys and values: they are passed around a ring, heads are "
            "exchanged for the sequence (Ulysses), or they are gathered"
        ),
    ] = "ring"
    axes: Annotated[
        list[Literal["pp", "dp", "cp", "tp"]],
        Field(
            default=["pp", "dp", "cp", "tp"],
            validate_default=False,
            description="mesh axis order, outermost first; the last varies fastest",
        ),
    ]
    schedule: str = "1f1b"
    num_stages_per_rank: Annotated[
        PositiveInt | None, Field(description="virtual stages; what the schedule usually takes if absent")
    ] = None
    activation_limit: Annotated[
        PositiveNumber | None, Field(ge=1, description="activations a rank may hold, in micro-batches; for zb_auto")
    ] = None
    schedule_file: Annotated[
        str | None, Field(description="rows of actions for the schedule custom, relative to the plan file")
    ] = None
    microbatch_size: Annotated[PositiveInt | None, Field(description="samples of a micro-batch")] = None
    num_microbatches: Annotated[PositiveInt | None, Field(description="micro-batches of a replica in one step")] = None
    global_batch_size: Annotated[PositiveInt | None, Field(description="samples of a step over all replicas")] = None
    dtype: str = "fp32"
    optimizer: OptimizerSchema = OptimizerSchema()
    dp_overlap: Annotated[bool, Field(description="all-reduce gradient buckets while backward goes on")] = True
    p2p_overlap: Annotated[
        bool, Field(description="messages between stages travel while ranks compute; false: sends block")
    ] = True
    tp_overlap: Annotated[
        bool,
        Field(description="sum input gradients over tp beside the product of the weight gradient, as Megatron does"),
    ] = False
    scatter_gather: Annotated[
        bool,
        Field(
            description="tp ranks send a part each of what goes to the next stage, which gathers them, as Megatron does"
        ),
    ] = False
    optimizer_barrier: Annotated[
        bool,
        Field(description="all ranks of a pipeline wait before the update; false: post-validation, steps overlap"),
    ] = True
    bucket_size: Annotated[Bytes, Field(description="gradient bucket; 25 MiB is torch DDP's default")] = parse_bytes(
        "25 MiB"
    )
    attention: Annotated[
        Literal["flash", "math"] | None,
        Field(description="fused, or with materialised scores; what the model says, or else flash on cuda devices"),
    ] = None
    vocab_parallel: Annotated[
        bool | Literal["pipeline"] | None,
        Field(
            description="embedding, output projection and loss cut by vocabulary over tp, or over the ranks of a "
            "pipeline; absent: over tp on cuda devices, and with sequence_parallel"
        ),
    ] = None
    sequence_parallel: Annotated[
        bool, Field(description="Megatron's: between tensor-parallel regions the tp ranks share the sequence")
    ] = False
    recompute: Annotated[
        Literal["none", "selective", "full"],
        Field(
            description="what runs forward again before its backward. full: blocks, which keep their inputs alone; "
            "selective: the cores of attention, whose scores are not kept"
        ),
    ] = "none"
    recompute_blocks: Annotated[
        PositiveInt | None, Field(description="blocks of each stage that recompute, the first ones; absent: all")
    ] = None
    sharding: Annotated[
        Literal["none", "zero1", "zero2", "zero3", "fsdp", "hsdp"],
        Field(
            description="what replicas share out: zero1: optimizer state; zero2: gradients too; fsdp or zero3: "
            "parameters too, gathered block by block; hsdp: fsdp inside groups of dp_shard replicas"
        ),
    ] = "none"
    dp_shard: Annotated[
        PositiveInt | None,
        Field(description="replicas that share one copy under hsdp, neighbours; all of dp if absent"),
    ] = None
    prefetch: Annotated[
        NonNegativeInt,
        Field(description="fsdp: blocks gathered ahead of the computation; 0: none while another is computed"),
    ] = 1
    reshard_after_forward: Annotated[
        bool, Field(description="fsdp: let go of parameters after forward; false: only after backward (SHARD_GRAD_OP)")
    ] = True
    overlap_param_gather: Annotated[
        bool,
        Field(description="zero1, zero2: gather updated parameters while the next forward runs, not after the update"),
    ] = False
    gradient_dtype: Annotated[
        Literal["same", "fp32", "bf16", "fp16"],
        Field(description="in which gradients are accumulated and reduced; same: as dtype stores them"),
    ] = "same"
    gradient_sync: Annotated[
        Literal["last", "each"] | None,
        Field(
            description="fsdp, hsdp: micro-batches whose gradients are reduce-scattered: the last (no_sync before "
            "it) or each; zero2 always takes each"
        ),
    ] = None
    offload: Annotated[
        Literal["none", "optimizer"],
        Field(
            description="what lives in host memory, over the host link. optimizer: its state, master weights and "
            "summed gradients; the host updates"
        ),
    ] = "none"
    stages: Annotated[
        Literal["auto", "even", "balanced"] | list[str],
        Field(
            description="even: equal numbers of repeated blocks; balanced: by cost; or the first block of each stage"
        ),
    ] = "auto"
    framework: Annotated[
        str, Field(description="whose overheads are added: launches, passes over memory that are not fused")
    ] = NONE
    flash_kernel: Annotated[
        Literal["newest", "flash2", "triton", "flash1"],
        Field(description="implementation of fused attention; newest: whatever reached the device's rates"),
    ] = "newest"
    cuda_graphs: Annotated[
        bool,
        Field(description="the framework's host replays graphs instead of launching kernels: it holds no device up"),
    ] = False
    fused_experts: Annotated[
        bool, Field(description="one kernel casts and multiplies for all experts of a rank, in fp8 and fp4")
    ] = False
    dataset_size: Annotated[PositiveInt | None, Field(description="samples of the training set")] = None
    epochs: PositiveInt = 1
