"""Bytes that training frameworks move besides bare work, as counted in their own code."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.model.layers.base import Phase

SEEN = 0.5
"""Part of the traffic of a sum that lengthens the product which makes it. Of the calibration rows of single products
(SimuMax), those that add to an fp32 sum take longer than those of the same shape that do not by 0.49 (A100 PCIe, 42
rows) and 0.38 (B200, 120 rows) of the time of the traffic, in the median; 6 bytes of an element at 85 and 90 % of
1.9 and 7.7 TB/s."""


@dataclass(frozen=True, slots=True)
class Accumulation:
    """How often gradients move in each micro-batch besides the product that makes them, in their two dtypes."""

    summed: float = 0.0
    """Passes over gradients as they are summed up (``gradient_dtype``)."""
    computed: float = 0.0
    """Passes over gradients as products write them (``dtype``); less than 0: what a fused product need not write."""

    def bytes(self, summed: int, computed: int) -> float:
        """Return the bytes of a parameter for elements of so many bytes, but for those that a fused product hides."""
        moved = self.summed * summed + self.computed * computed
        return moved * SEEN if self.computed < 0 else moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Bytes that a module written in torch's operations moves for each element of its result, 16 bits; 0: fused."""

    forward: float = 0.0
    input_grad: float = 0.0
    weight_grad: float = 0.0

    def bytes(self, phase: Phase) -> float:
        """Return the bytes of one phase."""
        return {Phase.FORWARD: self.forward, Phase.INPUT_GRAD: self.input_grad}.get(phase, self.weight_grad)


FUSED, NOT_SUMMED = Passes(), Accumulation()
"""Nothing beside what is counted of fused kernels."""

TORCH_LOSS = (14.0, 22.0)
"""``torch.nn.functional.cross_entropy`` under autocast: forward the cast (2 + 4) and log_softmax (4 + 4); backward the
zeroed gradient of nll_loss (4), that of log_softmax (4 + 4 + 4) and the cast back (4 + 2)."""

EAGER_NORM = Passes(forward=36.0, input_grad=76.0, weight_grad=8.0)
"""``(x.float() * rsqrt(x.float().pow(2).mean(-1) + eps)).type_as(x) * weight`` (torchtitan/models/norms.py): forward
the cast (2 + 4), square (4 + 4), mean (4), product (4 + 4), cast back (4 + 2), weight (2 + 2); backward the weight's
product (2 + 2), cast (2 + 4), both factors' gradients (4 + 4; 4 + 4 + 4, sum 4), mean (4), square (4 + 4; 4 + 4 + 4),
their sum (4 + 4 + 4) and the cast (4 + 2); of the weight the product (2 + 2 + 2) and its sum (2)."""

EAGER_ROPE = Passes(forward=20.0, input_grad=20.0)
"""``view_as_complex(xq.float()) * freqs_cis`` and ``type_as`` (torchtitan/models/llama/model.py): casts (2 + 4; 4 + 2)
and the product (4 + 4), forward and backward."""

EAGER_GLU = Passes(forward=10.0, input_grad=18.0)
"""``F.silu(self.w1(x)) * self.w3(x)``: forward silu (2 + 2) and the product (2 + 2 + 2); backward the gradients of
either factor and of silu (2 + 2 + 2 each)."""

MEGATRON_LOSS = (38.0, 14.0)
"""Megatron-LM core/tensor_parallel/cross_entropy.py: forward the cast (2 + 4), maximum (4), subtraction (4 + 4),
exponential (4 + 4), sum (4), division (4 + 4); backward the product with the gradient (4 + 4) and the cast (4 + 2)."""

MEGATRON_UPDATE = 26.0
"""Megatron-LM optimizer/optimizer.py, 16-bit with main parameters: gradients copied to fp32 (2 + 4), unscaled (4 + 4),
their norm (4), main parameters copied back (4 + 2), gradients zeroed (2)."""
