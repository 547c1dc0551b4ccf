"""Seconds of one kernel: launch, and the longer of arithmetic and memory traffic (roofline), by its shape.

How much of the peak a product reaches depends on its shape. The form is that of padding: (m + a) (n + a) (k + d) at the
rate of an endless product, which is what tiles that hang over the edge and a pipeline that fills cost. It is smooth, so
it says nothing of single waves of tiles; those explain less of what was measured than they cost in constants
(docs/devices.md compares the forms). References: Williams, Waterman, Patterson 2009 (roofline); Dao 2023, arXiv
2307.08691 (attention, forward and backward).
"""

from __future__ import annotations

from simulator.model.layers.base import Kernel
from simulator.plan.plan import NARROW
from simulator.topology import Device

BESIDE_NARROW = "bf16"
"""What attention is computed in beside them (arXiv 2209.05433, section 3)."""


FLASH_KERNELS = {"newest": 0.0, "flash2": 1.0, "triton": 1.9, "flash1": 2.35}
"""Time of implementations of fused attention, FlashAttention-2's being 1; 0: whatever reached the device's rates.

Dao 2023 (arXiv 2307.08691), section 4.1, on A100: FlashAttention-2 is 1.7 to 3.0 times as fast as FlashAttention, and
1.3 to 2.5 times as fast as FlashAttention in Triton; the middles. How much faster than FlashAttention-2 the kernels
behind a device's rates are is said by the device (``over_flash2``).
"""


def kernel_seconds(
    kernel: Kernel, device: Device, dtype: str, itemsize: int, *, flash: str = "newest", casts: bool = True
) -> float:
    """Return a kernel's time on the idle device at its nominal speed.

    Parameters
    ----------
    kernel
        A product or attention without a shape (m = 0) reaches what an endless one does.
    device
        Where it runs.
    dtype
        Of products; attention and all else are bf16 beside fp8 and fp4 products.
    itemsize
        Bytes of an element in memory.
    flash
        Implementation of fused attention.
    casts
        Whether the first operand of an fp8 or fp4 product is cast before it: that of a weight gradient was cast for the
        input gradient already, with its transpose in the same pass (Transformer Engine's cast_transpose).
    """
    if kernel.kind == "attention":
        work = attention_seconds(kernel, device, BESIDE_NARROW if dtype in NARROW else dtype) * _slower(device, flash)
        return device.launch_overhead + max(work, stream_seconds(kernel.elements * itemsize, device))
    if kernel.kind == "matmul":
        traffic, cast = _operands(kernel, device, dtype, itemsize)
        work = max(product_seconds(kernel, device, dtype), stream_seconds(traffic, device))
        return device.launch_overhead + work + (stream_seconds(cast, device) if casts else 0.0)
    return device.launch_overhead + stream_seconds(kernel.elements * itemsize, device)


def stream_seconds(traffic: float, device: Device) -> float:
    """Return the time of bytes read and written at the bandwidth that a large streaming kernel reaches."""
    return traffic / (device.memory_bandwidth * device.efficiency.memory)


def product_seconds(kernel: Kernel, device: Device, dtype: str) -> float:
    """Return the time of a matrix product's arithmetic."""
    efficiency = device.efficiency
    seconds = kernel.flops / (device.peak[dtype] * efficiency.of_products(dtype))
    if not kernel.m:
        return seconds
    padded = (1 + efficiency.edge / kernel.m) * (1 + efficiency.edge / kernel.n) * (1 + efficiency.depth / kernel.k)
    return seconds * padded


def attention_seconds(kernel: Kernel, device: Device, dtype: str) -> float:
    """Return the time of fused attention's arithmetic; under a causal mask half of the square is computed."""
    peak, known = device.peak[dtype], device.efficiency.attention
    flops = kernel.flops / 2 if kernel.causal else kernel.flops
    if known is None or not kernel.m:
        fraction = known.forward if known else device.efficiency.of_products(dtype)
        return flops / (peak * fraction)
    # Only backward repeats work; its fraction counts what the model asks for, and so hides the scores' second time.
    fraction = known.backward if kernel.repeated_flops else known.forward
    padded = (1 + known.edge / kernel.n) * (1 + known.rows / (kernel.batch * kernel.m))
    return flops / (peak * fraction) * padded


def _slower(device: Device, flash: str) -> float:
    """Return how many times as long an implementation of attention takes as the one behind the device's rates."""
    known = device.efficiency.attention
    return max(1.0, FLASH_KERNELS[flash] * (known.over_flash2 if known else 1.0))


def _operands(kernel: Kernel, device: Device, dtype: str, itemsize: int) -> tuple[float, float]:
    """Return the traffic of a product's operands and result in bytes, and that of the cast before it (fp8, fp4)."""
    if dtype not in NARROW or not kernel.m:
        return kernel.elements * itemsize, 0.0
    result = kernel.batch * kernel.m * kernel.n
    first = kernel.batch * kernel.m * kernel.k
    return (kernel.elements - result) * NARROW[dtype] + result * itemsize, first * device.efficiency.cast
