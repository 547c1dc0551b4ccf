"""The plan: every choice about how a model is trained on a cluster, resolved to numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulator.plan.frameworks import NONE
from simulator.plan.mesh import Mesh

DTYPE_BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 2, "fp4": 2}
"""Bytes of one element of parameters, activations and gradients in each training dtype.

tf32 multiplies what is stored as fp32; fp8 and fp4 multiply what is stored as bf16, cast just before (arXiv
2209.05433). Two bytes or fewer come with fp32 master weights. Narrow copies of weights are not counted; inputs that a
framework keeps narrow are (`simulator/program/keeping.py`).
"""

NARROW = {"fp8": 1.0, "fp4": 0.5625}
"""Bytes of an operand's element in the dtypes that products alone are computed in, cast just before.

fp4 is NVFP4: 16 elements are 8 bytes and one for their scale (nvidia.github.io/cuda-rust, Inference with NVFP4/MXFP8).
As the recipe has it, all three products of a layer are fp4 (github.com/pytorch/ao/issues/3293); the transforms of a
weight gradient's operands beside the cast are not counted.
"""

NEEDED = {"fp8": ("fp8", "bf16"), "fp4": ("fp4", "bf16")}
"""Dtypes that a device must have for a training dtype; itself where it is not here."""

EXECUTED = ("fp32", "bf16")
"""What the executor trains in: fp16 would need loss scaling, tf32, fp8 and fp4 a device's own kernels."""

MASTER_BYTES = 4
"""Bytes of an fp32 value: optimizer state and master weights are fp32 under every dtype (arXiv 1710.03740)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """The update rule.

    Parameters
    ----------
    kind
        ``sgd``, ``momentum`` or ``adam``.
    learning_rate, momentum
        Step size; momentum only for ``momentum``.
    """

    kind: str
    learning_rate: float
    momentum: float = 0.9

    @property
    def states(self) -> int:
        """Number of fp32 values kept for each parameter."""
        return {"sgd": 0, "momentum": 1, "adam": 2}[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A parallel plan with nothing left to infer.

    Parameters
    ----------
    mesh
        Grid of ranks with the axes ``pp``, ``dp``, ``cp`` and ``tp``.
    schedule
        Name of the pipeline schedule.
    microbatch_size, num_microbatches
        Samples of a micro-batch, and micro-batches of one replica in a step.
    dtype
        ``fp32``, ``tf32``, ``bf16``, ``fp16``, ``fp8`` or ``fp4``: what products are computed in. Parameters,
        activations and gradients take ``itemsize`` bytes, master weights (for all but fp32 and tf32) and optimizer
        state four.
    dp_overlap
        All-reduce gradient buckets while backward goes on; otherwise all at its end.
    bucket_size
        Bytes of gradients after which a bucket is closed.
    p2p_overlap
        Messages between stages travel while ranks compute; otherwise a rank waits until what it sent has arrived.
    tp_overlap
        Input gradients are summed over tensor-parallel ranks while these compute the weight gradient of the same layer;
        otherwise nothing is computed meanwhile.
    scatter_gather
        Of a tensor that all tensor-parallel ranks have each sends a part to the next stage, whose ranks gather them;
        otherwise each sends all of it.
    optimizer_barrier
        All ranks of a pipeline wait for each other before they update; otherwise each goes on to the next step at once.
    num_stages_per_rank
        Pipeline stages that each rank runs (virtual stages).
    activation_limit
        Activations that a rank may hold at once, in those of a micro-batch where they are largest, for schedules that
        can be told (``zb_auto``). What waits for its weight gradient alone counts by what is left of it.
    ep
        Expert-parallel ranks: neighbours in the ``expert_plane``, which hold other experts each.
    expert_tp
        Tensor-parallel ranks that share each expert: ``tp``, or 1; then whole experts are shared out over the
        ``tp`` ranks too, each of which has its own tokens.
    expert_dispatch
        How rows reach their experts: ``all_to_all``, or ``deep_ep``, which sends a token once to each node and rank.
    context_parallel
        How attention meets the keys and values of other ``cp`` ranks: ``ring``, ``all_to_all`` or ``all_gather``.
    schedule_file, schedule_text
        Name and content of the file behind the schedule ``custom``.
    attention
        ``flash`` (fused) or ``math`` (scores in memory) for all attention; empty: as the layers of the model are.
    vocab_parallel
        Tensor-parallel ranks share the vocabulary: rows of the embedding, columns of the logits.
    vocab_pipeline
        The ranks of a pipeline share the vocabulary instead.
    sequence_parallel
        Tensor-parallel ranks share the sequence between their regions.
    recompute
        ``none``; ``full``: forward keeps the inputs of each block alone and runs again before the block's backward;
        ``selective``: the same of each core of attention.
    recompute_blocks
        Blocks of each stage, the first ones, that recompute; None for all.
    sharding
        What replicas share out among them: ``none``, ``zero1`` (optimizer state), ``zero2`` (gradients too), ``fsdp``
        (parameters too, gathered by blocks) or ``hsdp`` (as ``fsdp``, inside groups of ``dp_shard``).
    dp_shard
        Data-parallel replicas that share one copy under ``hsdp``; 0 = all.
    prefetch
        Blocks that sharded parameters are gathered ahead.
    reshard_after_forward
        Let go of gathered parameters after forward and gather them again for backward.
    overlap_param_gather
        Gather parameters that ``zero1`` and ``zero2`` have updated when the next step begins, beside its forward;
        otherwise when this one ends.
    gradient_dtype
        In which gradients are accumulated and reduced: ``fp32``, ``bf16``, ``fp16``, or ``same`` as ``dtype`` stores.
    gradient_sync
        Micro-batches whose gradients are reduced: ``last``, or ``each``; then a rank keeps its part of their sum alone.
    offload
        What lives in host memory: ``none``, or ``optimizer``: its state and master weights; the host updates.
    stages
        ``auto``, ``even``, ``balanced``, or the block that each stage begins with.
    framework
        Whose overheads are added, a key of ``FRAMEWORKS``.
    flash_kernel
        Implementation of fused attention.
    cuda_graphs
        The framework's host replays recorded kernels, so that it holds no device up.
    fused_experts
        One kernel casts and multiplies for all experts of a rank.
    dataset_size, epochs
        Samples of the training set (0 = not named) and passes over it.
    """

    name: str
    mesh: Mesh
    schedule: str
    microbatch_size: int
    num_microbatches: int
    dtype: str
    optimizer: Optimizer
    dp_overlap: bool
    bucket_size: float
    p2p_overlap: bool = True
    tp_overlap: bool = False
    scatter_gather: bool = False
    optimizer_barrier: bool = True
    num_stages_per_rank: int = 1
    ep: int = 1
    expert_tp: int = 1
    expert_dispatch: str = "all_to_all"
    context_parallel: str = "ring"
    activation_limit: float | None = None
    schedule_file: str = ""
    schedule_text: str = ""
    attention: str = ""
    vocab_parallel: bool = False
    vocab_pipeline: bool = False
    sequence_parallel: bool = False
    recompute: str = "none"
    recompute_blocks: int | None = None
    sharding: str = "none"
    dp_shard: int = 0
    prefetch: int = 1
    reshard_after_forward: bool = True
    overlap_param_gather: bool = False
    gradient_dtype: str = "same"
    gradient_sync: str = "last"
    offload: str = "none"
    stages: str | tuple[str, ...] = "auto"
    framework: str = NONE
    flash_kernel: str = "newest"
    cuda_graphs: bool = False
    fused_experts: bool = False
    dataset_size: int = 0
    epochs: int = 1

    @property
    def dp(self) -> int:
        """Data-parallel replicas."""
        return self.mesh.size("dp")

    @property
    def cp(self) -> int:
        """Context-parallel ranks, which share the sequence of each sample."""
        return self.mesh.size("cp")

    @property
    def replicas(self) -> int:
        """Ranks with the same parameters: gradients are summed over data- and context-parallel ranks alike."""
        return self.dp * self.cp

    @property
    def sharers(self) -> int:
        """Replicas that share out one copy of what is shared out: neighbours in the dp x cp plane."""
        return self.dp_shard * self.cp if self.dp_shard else self.replicas

    @property
    def is_sharded(self) -> bool:
        """Whether each replica holds a part of the parameters alone; one replica is its own part."""
        return self.sharding in ("fsdp", "hsdp") and self.sharers > 1

    @property
    def updates_parts(self) -> bool:
        """Whether each replica updates a part of the parameters alone, and holds the optimizer state of that part."""
        return self.sharding != "none" and self.sharers > 1

    @property
    def gathers_updates(self) -> bool:
        """Whether parameters that are kept whole are gathered after replicas have updated their parts."""
        return self.updates_parts and not self.is_sharded

    @property
    def copies(self) -> int:
        """Groups of replicas that each share out a copy; their parts of the gradients are summed over all of them."""
        return self.replicas // self.sharers if self.updates_parts else 1

    @property
    def reduces_each(self) -> bool:
        """Whether gradients leave in each micro-batch, so that no more than a rank's part of them is kept."""
        return self.gradient_sync == "each" and (self.updates_parts or self.updates_on_host)

    @property
    def updates_on_host(self) -> bool:
        """Whether the host updates parameters, and keeps what only an update reads."""
        return self.offload == "optimizer"

    @property
    def folds_experts(self) -> bool:
        """Whether tensor-parallel ranks hold other experts instead of parts of the same ones."""
        return self.expert_tp < self.tp

    @property
    def expert_plane(self) -> tuple[str, ...]:
        """Axes of the ranks among which experts are shared out, and over which their replicas lie."""
        return ("dp", "cp", "tp") if self.folds_experts else ("dp", "cp")

    @property
    def expert_replicas(self) -> int:
        """Ranks with the same expert, or the same part of it."""
        return math.prod(map(self.mesh.size, self.expert_plane)) // self.ep

    def sharers_along(self, axis: str) -> int:
        """Return how many ranks share out a bucket that has replicas along ``dp`` or ``dp_expert``."""
        return self.expert_replicas if axis == "dp_expert" else self.sharers

    @property
    def tp(self) -> int:
        """Tensor-parallel ranks."""
        return self.mesh.size("tp")

    @property
    def pp(self) -> int:
        """Pipeline ranks."""
        return self.mesh.size("pp")

    @property
    def num_stages(self) -> int:
        """Pipeline stages."""
        return self.pp * self.num_stages_per_rank

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return DTYPE_BYTES[self.dtype]

    @property
    def gradient_itemsize(self) -> int:
        """Bytes of one element of an accumulated parameter gradient."""
        return self.itemsize if self.gradient_dtype == "same" else DTYPE_BYTES[self.gradient_dtype]

    @property
    def global_batch_size(self) -> int:
        """Samples of one optimizer step over all replicas."""
        return self.microbatch_size * self.num_microbatches * self.dp

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the data set, the last batch possibly smaller; 0 if none is named."""
        return math.ceil(self.dataset_size / self.global_batch_size)

    @property
    def updates(self) -> int:
        """Parameter updates over all epochs."""
        return self.steps_per_epoch * self.epochs

    @property
    def has_master_weights(self) -> bool:
        """Whether an fp32 copy of the parameters is kept beside those used in compute."""
        return self.itemsize < MASTER_BYTES
