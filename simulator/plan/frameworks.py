"""Training frameworks: what each adds to the bare work of a model, under the names of the plan's key ``framework``.

A number is either *counted* in the framework's own code, or *fitted*: one constant for a framework and a mechanism, on
calibration rows alone (``benchmarks/fit_frameworks.py``, which prints what remains). None belongs to a model, a cluster
or a row. Without a framework nothing is added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from simulator.model.layers.base import Kernel
from simulator.plan.framework_traffic import (
    EAGER_GLU,
    EAGER_NORM,
    EAGER_ROPE,
    FUSED,
    MEGATRON_LOSS,
    MEGATRON_UPDATE,
    NOT_SUMMED,
    TORCH_LOSS,
    Accumulation,
    Passes,
)
from simulator.units import parse_seconds

NONE = "none"
"""Value of the key that adds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """What one framework adds.

    Parameters
    ----------
    host_launch
        Seconds of the host for each kernel that the model counts; the device cannot run them faster than that. Eager
        frameworks launch several kernels (casts, transposes, masks, dropout) for one that is counted, so it is a few
        times the 5 to 10 us of a single launch.
    mixture
        Seconds of the host for each mixture of experts, forward and again backward: it waits until the device has
        counted the rows of each expert, and only then launches what follows. None with ``cuda_graphs``.
    expert
        Seconds for each fp8 or fp4 product of each expert of a rank, which has casts, scales and a launch of its own.
        None with ``fused_experts``.
    slot
        Seconds of the host before the first launch of each forward and each backward of a stage: batches, masks,
        hooks, messages. The device waits for them where the host has just waited for the device: in a pipeline whose
        messages are completed before anything is launched (``p2p_overlap: false``). Elsewhere the host is ahead.
    asks_sizes
        Whether each forward begins with a question to the device, so that the host is never ahead of it then.
    pairs_messages
        Whether ``interleaved_1f1b`` completes the messages of a forward and of the backward after it together, so that
        only the forward begins on a device that has run dry.
    step
        Seconds of a step in which the device waits for the host: data, norm of the gradients, loss, logging.
    elementwise
        Bytes that element-wise operations of a model of tokens move for each byte of fused ones, 1 or more.
    loss
        Bytes of a logit that the loss moves forward and backward, for those that do not fuse it; (0, 0): fused.
    norm, rope, glu
        What norms, the turning of queries and keys, and gated activations move where no kernel fuses them.
    accumulation
        How gradients are summed up over micro-batches.
    update
        Bytes of a parameter that the optimizer moves besides one fused pass: casts, scaling, norm.
    listing
        Seconds of the host for each rank that holds a part of a parameter, whenever the parameter is gathered from a
        list of such parts; the device waits for it.
    defers_products_only
        Whether a weight gradient that runs apart is that of matrix products alone: gradients of biases and norms are
        small sums over what the input gradient has at hand, and stay beside it.
    adds_bias
        Whether a kernel of its own adds the bias of queries, keys and values.
    fuses_residual
        Whether one kernel adds the bias of a projection, drops of it, and adds it to the stream.
    own_softmax
        Whether scores of 16 bits are scaled, masked and normalised by a kernel of its own, which takes a multiple of 4
        heads of a micro-batch on a rank, a multiple of 4 queries, and 17 to 4,096 keys; others go to fp32 and back, a
        kernel for each step.
    splits_projections
        Whether queries, keys and values, and gate and up, are products of their own, whose inputs' gradients are added.
    one_hot
        Whether tokens are looked up as a product of one-hot rows and the table.
    channels_first
        Dtypes that tensor cores multiply whose images lie channels first, so that convolutions turn them.
    winograd
        Dtypes whose 3 x 3 convolutions are done with fewer multiplications.
    source
        Where the numbers come from.
    """

    host_launch: float = 0.0
    mixture: float = 0.0
    expert: float = 0.0
    slot: float = 0.0
    asks_sizes: bool = False
    pairs_messages: bool = False
    step: float = 0.0
    elementwise: float = 1.0
    loss: tuple[float, float] = (0.0, 0.0)
    norm: Passes = FUSED
    rope: Passes = FUSED
    glu: Passes = FUSED
    accumulation: Accumulation = NOT_SUMMED
    update: float = 0.0
    listing: float = 0.0
    defers_products_only: bool = False
    adds_bias: bool = False
    fuses_residual: bool = False
    own_softmax: bool = False
    splits_projections: bool = False
    one_hot: bool = False
    channels_first: tuple[str, ...] = ()
    winograd: tuple[str, ...] = ()
    source: str

    def defers(self, kernel: Kernel) -> bool:
        """Return whether a kernel of a weight gradient that runs apart is put off; it stays with the input's if not."""
        return kernel.kind != "memory" or not self.defers_products_only


MEGATRON_SLOT = parse_seconds("1.1 ms")
"""Fitted on 60 calibration rows of vTrain, whose micro-batches and stages vary; of Megatron-LM as of its fork.

Megatron-LM's own pipelines among the calibration rows are of one team, and what they miss grows with the tokens of a
micro-batch, which element-wise operations explain and a slot does not; with a level for each source, so that only
differences within one count, a slot fitted to them is 0.0 +- 0.7 ms.
"""

FRAMEWORKS = {
    NONE: Framework(source="the work of the model alone"),
    "megatron-deepspeed": Framework(
        host_launch=parse_seconds("52 us"),
        slot=MEGATRON_SLOT,
        asks_sizes=True,
        adds_bias=True,
        fuses_residual=True,
        own_softmax=True,
        step=parse_seconds("3.8 ms"),
        loss=MEGATRON_LOSS,
        accumulation=Accumulation(2, 1),
        update=MEGATRON_UPDATE,
        source="loss and update counted; what a product wrote is read, the sum read and written; "
        "broadcast_data as megatron-2023, biases, residuals as megatron, softmax as megatron-2023. The rest "
        "fitted on the 379 calibration rows of vTrain (VIA-Research, 2 to 8 A100), vocabulary parallel: median |error| "
        "6.6%, mean 7.5%; a free slot would be 1.2 to 1.5 ms",
    ),
    "megatron": Framework(
        slot=MEGATRON_SLOT,
        pairs_messages=True,
        defers_products_only=True,
        adds_bias=True,
        fuses_residual=True,
        step=parse_seconds("32 ms"),
        elementwise=3.49,
        loss=MEGATRON_LOSS,
        accumulation=Accumulation(2, -1),
        update=MEGATRON_UPDATE,
        source="loss and update counted; the weight gradient's product reads and writes main_grad in place of the "
        "gradient (fused_weight_gradient_mlp_cuda); `output + bias` is a kernel of its own where skip_bias_add is not "
        "set, which is the projection to queries, keys and values, for the others bias_dropout_add_fused_train of "
        "fusions/fused_bias_dropout.py does all (bias_dropout_fusion is on by default). Messages: "
        "core/pipeline_parallel/p2p_communication.py ends each exchange with torch.cuda.synchronize, "
        "and schedules.py joins those of an interleaved pair in "
        "send_forward_backward_recv_forward_backward. Split backward: of its fork for zero-bubble schedules, "
        "core/tensor_parallel/layers.py puts products into WeightGradStore and sums biases at once; autograd does the "
        "norms (github.com/sail-sg/zero-bubble-pipeline-parallelism). The rest fitted on 60 calibration rows of 2024 "
        "of up to 32 GPUs (Vocabulary Parallelism, SimuMax): median |error| 3.9%, mean 4.4%",
    ),
    "megatron-core": Framework(
        fuses_residual=True,
        mixture=parse_seconds("4.5 ms"),
        expert=parse_seconds("40 us"),
        accumulation=Accumulation(2, -1),
        update=4.0,
        source="accumulation and residuals as megatron; the loss is fused (cross_entropy_loss_fusion of the recipes); "
        "the norm of the gradients reads them once, as fp32 (4). Mixture fitted on the calibration rows of "
        "Megatron-Bridge that no graph is recorded of and that the host holds up: Qwen3 30B with micro-batches of one "
        "sample, on B200 and H100. Expert fitted on its 24 calibration rows of mixtures in fp8 without fused experts, "
        "4 to 16 of them on a "
        "rank: median |error| 5.6% (15% without); in bf16 those of Qwen3 and DeepSeek ask for none",
    ),
    "fsdp-composer": Framework(
        step=parse_seconds("22 ms"),
        elementwise=1.88,
        accumulation=Accumulation(1, 3),
        update=12.0,
        source="the loss is fused (llm-foundry, models/mpt/modeling_mpt.py: loss_fn is fused_crossentropy unless told "
        "otherwise, flash_attn.losses.cross_entropy); FSDP joins gradients into a flat one (read, written) and casts "
        "it for its reduction (read, written; torch/distributed/fsdp/_runtime_utils.py); clipping reads gradients for "
        "their norm (4) and scales them (4 + 4). The rest fitted on 40 calibration rows of llm-foundry: "
        "median |error| 3.6%, mean 4.7%",
    ),
    "fsdp-torchtitan": Framework(
        loss=TORCH_LOSS,
        norm=EAGER_NORM,
        rope=EAGER_ROPE,
        glu=EAGER_GLU,
        splits_projections=True,
        accumulation=Accumulation(1, 5),
        update=12.0,
        source="all counted: modules of torch's operations, as torchtitan's Llama has them where nothing is compiled "
        "(norm_type is rmsnorm in its configurations), wq, wk, wv, w1 and w3 apart; FSDP2's copies, loss and clipping "
        "as fsdp-compiled",
    ),
    "fsdp-compiled": Framework(
        loss=TORCH_LOSS,
        rope=EAGER_ROPE,
        accumulation=Accumulation(1, 5),
        update=12.0,
        source="torch.compile fuses element-wise operations, but for complex ones, which turn queries and keys "
        "(github.com/pytorch/torchtitan/issues/15); torchtitan compiles blocks alone, so that the loss is as fsdp's "
        "(train.py of December 2024); FSDP2 copies parameters out of what it gathered, forward and backward, and "
        "gradients into the buffer that it reduces (read, written; "
        "torch/distributed/fsdp/_fully_shard/_fsdp_collectives.py); clipping as fsdp",
    ),
    "deepspeed": Framework(
        loss=MEGATRON_LOSS,
        update=MEGATRON_UPDATE,
        source="as megatron-deepspeed, whose model and optimizer steps it shares",
    ),
    "deepspeed-lists": Framework(
        listing=parse_seconds("67 us"),
        loss=MEGATRON_LOSS,
        update=MEGATRON_UPDATE,
        source="as deepspeed, of 2021: _allgather_param of runtime/zero/partition_parameters.py walks over all ranks "
        "to list the parts of a parameter, and torch copies each out of the buffer that NCCL filled. Listing "
        "fitted on 4 calibration rows (Narayanan et al. 2021, table 2): median |error| 21%. Those say less of "
        "its growth with the ranks, about 17 us, than of its level: it stands for slow gathers too",
    ),
    "ddp": Framework(
        step=parse_seconds("7.2 ms"),
        elementwise=1.55,
        loss=TORCH_LOSS,
        accumulation=Accumulation(2, 1),
        channels_first=("tf32",),
        winograd=("fp32",),
        source="loss counted; autograd adds a gradient to the one that is there (read, read, written); images lie "
        "channels first unless a script asks for channels last, which DeepLearningExamples' ConvNets do with "
        "amp alone (configs.yml: memory_format); their main.py lets cuDNN time its algorithms "
        "(torch.backends.cudnn.benchmark). The rest fitted on 35 calibration rows of DeepLearningExamples: "
        "median |error| 5.5%, mean 6.1%",
    ),
    "pax": Framework(
        one_hot=True,
        source="as xla; EMBEDDING_LOOKUP_STYLE is 'matmul' (google/paxml, tasks/lm/params/c4.py), a product with "
        "jax.nn.one_hot(ids) (google/praxis, layers/embedding_softmax.py)",
    ),
    "xla": Framework(source="XLA fuses element-wise operations and the loss, and runs a step as one program"),
}
"""The frameworks by name."""

FRAMEWORKS["fsdp"] = replace(
    FRAMEWORKS["fsdp-composer"],
    loss=TORCH_LOSS,
    source=f"torch's own loss, counted; the rest as fsdp-composer: {FRAMEWORKS['fsdp-composer'].source}",
)
FRAMEWORKS["megatron-2023"] = replace(
    FRAMEWORKS["megatron"],
    asks_sizes=True,
    own_softmax=True,
    step=0.0,
    elementwise=1.21,
    source="as megatron, until the end of 2023: every stage calls get_batch before each forward, and broadcast_data in "
    "core/tensor_parallel/data.py fetches the sizes of the batch from the device (sizes_cuda.cpu()), which waits for "
    "all that was launched before. get_batch_on_this_tp_rank of megatron/training/utils.py has no such question. "
    "Softmax: is_kernel_available and forward_torch_softmax of model/fused_softmax.py, scores scaled by layer and "
    "normalised in fp32 (apply_query_key_layer_scaling, then on by default). "
    "The rest fitted on 20 calibration rows of 2020 to 2023 of up to 1,100 GPUs (READMEs, Narayanan et al. 2021): "
    "median |error| 2.7%, mean 5.1%",
)
