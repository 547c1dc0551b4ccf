"""Training frameworks: what each adds to the bare work of a model, under the names of the plan's key ``framework``.

A number is either *counted* in the framework's own code, or *fitted*: one constant for a framework and a mechanism, on
calibration rows alone (``benchmarks/fit_frameworks.py``, which prints what remains). None belongs to a model, a cluster
or a row. Without a framework nothing is added.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        counted the rows of each expert, and then launches products and casts expert by expert. None with
        ``cuda_graphs``.
    slot
        Seconds of the host before the first launch of each forward and each backward of a stage: batches, masks,
        hooks, messages. In a pipeline the host then waits for the device too, since it completes the messages of a slot
        before it launches anything; elsewhere it goes on ahead of the device.
    step
        Seconds of a step in which the device waits for the host: data, norm of the gradients, loss, logging.
    elementwise
        Bytes that element-wise operations move for each byte of fused ones, 1 or more.
    loss
        Bytes of a logit that the loss moves forward and backward, for those that do not fuse it; (0, 0): fused.
    accumulation
        Bytes of a parameter, in each micro-batch, that gradients move besides the product that makes them.
    main_grad
        Whether that product adds to a sum in the plan's ``gradient_dtype``, which it reads and writes in place of its
        own result (gradient_accumulation_fusion).
    update
        Bytes of a parameter that the optimizer moves besides one fused pass: casts, scaling, norm.
    source
        Where the numbers come from.
    """

    host_launch: float = 0.0
    mixture: float = 0.0
    slot: float = 0.0
    step: float = 0.0
    elementwise: float = 1.0
    loss: tuple[float, float] = (0.0, 0.0)
    accumulation: float = 0.0
    main_grad: bool = False
    update: float = 0.0
    source: str


TORCH_LOSS = (14.0, 22.0)
"""``torch.nn.functional.cross_entropy`` under autocast: forward the cast (2 + 4) and log_softmax (4 + 4); backward the
zeroed gradient of nll_loss (4), that of log_softmax (4 + 4 + 4) and the cast back (4 + 2)."""

MEGATRON_LOSS = (38.0, 14.0)
"""Megatron-LM core/tensor_parallel/cross_entropy.py: forward the cast (2 + 4), maximum (4), subtraction (4 + 4),
exponential (4 + 4), sum (4), division (4 + 4); backward the product with the gradient (4 + 4) and the cast (4 + 2)."""

MEGATRON_UPDATE = 26.0
"""Megatron-LM optimizer/optimizer.py, 16-bit with main parameters: gradients copied to fp32 (2 + 4), unscaled (4 + 4),
their norm (4), main parameters copied back (4 + 2), gradients zeroed (2)."""

FRAMEWORKS = {
    NONE: Framework(source="the work of the model alone"),
    "megatron-deepspeed": Framework(
        host_launch=parse_seconds("58 us"),
        slot=parse_seconds("1.1 ms"),
        step=parse_seconds("8.4 ms"),
        elementwise=1.7,
        loss=MEGATRON_LOSS,
        accumulation=6.0,
        update=MEGATRON_UPDATE,
        source="loss and update counted; gradients accumulate in fp16: read twice, written once. The rest fitted on 60 "
        "calibration rows of vTrain (VIA-Research, 2 to 8 A100), vocabulary parallel: median |error| 7.6%, mean 8.2%",
    ),
    "megatron": Framework(
        slot=parse_seconds("1.6 ms"),
        step=parse_seconds("10 ms"),
        elementwise=1.25,
        loss=MEGATRON_LOSS,
        main_grad=True,
        update=MEGATRON_UPDATE,
        source="loss and update counted; the weight gradient's product reads and writes main_grad "
        "(fused_weight_gradient_mlp_cuda). The rest fitted on 40 calibration rows of Megatron SC21, the "
        "READMEs and Vocabulary Parallelism (MLSys25): median |error| 7.7%, mean 9.9%",
    ),
    "megatron-core": Framework(
        mixture=parse_seconds("4.5 ms"),
        main_grad=True,
        update=4.0,
        source="main_grad as megatron; the loss is fused (cross_entropy_loss_fusion of the recipes); the norm of "
        "the gradients reads them once, as fp32 (4). Mixture fitted on the calibration rows of Megatron-Bridge that no "
        "graph is recorded of and that the host holds up: Qwen3 30B with micro-batches of one sample, on B200 and H100",
    ),
    "fsdp": Framework(
        elementwise=1.7,
        loss=TORCH_LOSS,
        accumulation=10.0,
        update=12.0,
        source="loss counted; FSDP joins gradients into a flat one (2 + 2) and casts it to fp32 for its reduction "
        "(2 + 4; torch/distributed/fsdp/_runtime_utils.py); clipping reads gradients for their norm (4) and scales "
        "them (4 + 4). Element-wise fitted on 36 calibration rows of llm-foundry and torchtitan, before the flat "
        "gradients were counted: median |error| 4.2%, mean 5.9%",
    ),
    "fsdp-compiled": Framework(
        update=12.0,
        source="torch.compile fuses the loss and element-wise operations; clipping as fsdp",
    ),
    "deepspeed": Framework(
        loss=MEGATRON_LOSS,
        update=MEGATRON_UPDATE,
        source="as megatron-deepspeed, whose model and optimizer steps it shares",
    ),
    "ddp": Framework(
        loss=TORCH_LOSS,
        source="loss counted",
    ),
    "xla": Framework(source="XLA fuses element-wise operations and the loss, and runs a step as one program"),
}
"""The frameworks by name."""
