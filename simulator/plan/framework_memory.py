"""Training frameworks: what each keeps in memory beside what the work of a model asks for.

Counted in the frameworks' own code; nothing here is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameworkMemory:
    """What one framework keeps.

    Parameters
    ----------
    loss
        Bytes of a logit that live at the worst moment of the loss beside what its backward keeps: where a rank has all
        logits of a token, and where tensor-parallel ranks share them.
    keeps_cast
        Whether a rank keeps its part of sharded parameters in the training dtype too; otherwise each gathering casts
        the fp32 part anew.
    staging
        Sharded parameters arrive in a buffer from which they are copied, and gradients are copied into one that is
        reduced.
    keeps_narrow
        An fp8 or fp4 product keeps its input as it was cast, in place of the 16-bit tensor.
    weighs_inside
        Experts' rows are weighed before their last product, so that the sum behind it keeps none of them.
    """

    loss: tuple[float, float] = (0.0, 0.0)
    keeps_cast: bool = True
    staging: bool = False
    keeps_narrow: bool = False
    weighs_inside: bool = False


TORCH_LOSS = (10.0, 12.0)
"""``cross_entropy(logits.float())``. Backward holds log-probabilities, the gradient towards them and that towards the
fp32 logits, 4 each, and in the cache of the allocator the block of the 16-bit logits, 2, which forward freed and which
is too small for the others: 14, of which the log-probabilities are kept anyway. torch's loss_parallel
(torch/distributed/tensor/parallel/loss.py) computes ``(grad_input + exp(x)) * grad_output``: x, the zeros, the
exponentials and the sum, 4 each, and 2: 18, of which exponentials and 16-bit logits are kept anyway."""

MEGATRON_LOSS = (6.0, 4.0)
"""core/tensor_parallel/cross_entropy.py: forward holds the 16-bit logits (2), their fp32 copy (4) and the difference to
the largest, which becomes the softmax (4): 10, of which the softmax, and shared logits, are kept anyway."""

PLAIN = FrameworkMemory()
"""Nothing beside."""

SHARDED = FrameworkMemory(loss=TORCH_LOSS, keeps_cast=False, staging=True)
"""FSDP2 (torch/distributed/fsdp/_fully_shard) keeps fp32 parts alone and casts what it gathers (_fsdp_param.py:
``sharded_param`` in the original dtype, ``all_gather_inputs`` cast to ``param_dtype``); ``foreach_all_gather_copy_out``
copies each parameter out of the gathered buffer, and ``foreach_reduce`` gradients into the one that is reduced
(_fsdp_collectives.py). FSDP1 gathers into the parameters' own flat tensor: for it this is a block too much."""

COMPOSER = FrameworkMemory(keeps_cast=False)
"""FSDP1 casts what it gathers into the parameters' own flat tensor, and reduces gradients from it. The fused loss
(flash_attn.losses.cross_entropy) keeps the 16-bit logits (2) and makes a gradient of their size (2): no more than what
the loss of a model keeps anyway, 4."""

FRAMEWORK_MEMORY = {
    "fsdp": SHARDED,
    "fsdp-composer": COMPOSER,
    "fsdp-torchtitan": SHARDED,
    "fsdp-compiled": SHARDED,
    "ddp": FrameworkMemory(loss=TORCH_LOSS),
    "megatron": FrameworkMemory(loss=MEGATRON_LOSS),
    "megatron-2023": FrameworkMemory(loss=MEGATRON_LOSS),
    "megatron-core": FrameworkMemory(loss=MEGATRON_LOSS, keeps_narrow=True, weighs_inside=True),
    "megatron-deepspeed": FrameworkMemory(loss=MEGATRON_LOSS),
    "deepspeed": FrameworkMemory(loss=MEGATRON_LOSS),
    "deepspeed-lists": FrameworkMemory(loss=MEGATRON_LOSS),
}
"""By the plan's key ``framework``. torchtitan compiles blocks, not the loss, so both forms of FSDP hold the same."""
