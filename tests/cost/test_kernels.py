"""Seconds of one kernel: laws for every shape, and numbers by hand."""

from dataclasses import replace
from itertools import pairwise

import pytest

from simulator.cost.kernels import kernel_seconds
from simulator.model.layers.base import Kernel, fused_attention, matmul, memory
from simulator.topology import AttentionEfficiency, Device, Efficiency

PEAK, BANDWIDTH, LAUNCH = 100e12, 1e12, 2e-6
EFFICIENCY = Efficiency(
    matmul=0.8,
    by_dtype={"fp8": 0.7, "fp4": 0.5},
    edge=64,
    depth=128,
    cast=5,
    memory=0.9,
    attention=AttentionEfficiency(forward=0.6, backward=0.4, edge=1000, rows=10000),
)
GPU = Device(
    kind="gpu",
    backend="cuda",
    memory=80e9,
    memory_bandwidth=BANDWIDTH,
    peak={"bf16": PEAK, "fp8": 2 * PEAK, "fp4": 4 * PEAK, "tf32": PEAK / 2},
    efficiency=EFFICIENCY,
    launch_overhead=LAUNCH,
    source="made up",
)
SIZES = [1, 100, 128, 129, 1000, 4096, 4097, 100_000]


def attention(queries: int, keys: int, heads: int, *, backward: bool = False, causal: bool = False) -> Kernel:
    return fused_attention(
        batch=heads, queries=queries, keys=keys, size=128, value_size=128, shared=1, causal=causal, backward=backward
    )


def seconds(kernel: Kernel, device: Device = GPU, dtype: str = "bf16") -> float:
    return kernel_seconds(kernel, device, dtype, 2)


def faster(**changes: object) -> Device:
    return replace(GPU, **changes)  # type: ignore[arg-type]


KERNELS = [
    *(matmul(m, 4096, 2048) for m in SIZES),
    *(matmul(4096, n, 2048) for n in SIZES),
    *(matmul(4096, 2048, k) for k in SIZES),
    *(matmul(77, 1024, 512, batch) for batch in SIZES),
    *(attention(n, n, 32) for n in SIZES[:-1]),
    *(attention(1024, 1024, heads) for heads in SIZES),
    *(memory(elements) for elements in SIZES),
]


def test_a_product_by_hand() -> None:
    # (1000 + 64) (500 + 64) (2000 + 128) at 80 TFLOP/s; traffic of 7 MB is far shorter.
    padded = 2 * 1064 * 564 * 2128 / 80e12
    assert seconds(matmul(1000, 500, 2000)) == pytest.approx(LAUNCH + padded)


def test_attention_by_hand() -> None:
    # 4 x 8 heads x 2000 x 2000 x 128 FLOP, half of it under a mask, at 60 TFLOP/s; 3000 keys and 26000 queries.
    flops = 4 * 8 * 2000 * 2000 * 128
    losses = 3000 / 2000 * 26000 / 16000
    assert seconds(attention(2000, 2000, 8)) == pytest.approx(LAUNCH + flops / 60e12 * losses)
    assert seconds(attention(2000, 2000, 8, causal=True)) == pytest.approx(LAUNCH + flops / 2 / 60e12 * losses)
    backward = seconds(attention(2000, 2000, 8, backward=True))
    assert backward == pytest.approx(LAUNCH + 2 * flops / 40e12 * losses)


@pytest.mark.parametrize(("dtype", "rate", "itemsize"), [("fp8", 200e12 * 0.7, 1), ("fp4", 400e12 * 0.5, 9 / 16)])
def test_a_narrow_product_casts_its_first_operand_and_attention_beside_it_is_bf16(
    dtype: str, rate: float, itemsize: float
) -> None:
    product = matmul(4096, 4096, 4096)
    arithmetic = 2 * 4160 * 4160 * 4224 / rate
    cast = 4096 * 4096 * 5 / 0.9e12
    assert seconds(product, dtype=dtype) == pytest.approx(LAUNCH + arithmetic + cast)
    # Two operands narrow, the result as it is stored.
    endless = faster(efficiency=replace(EFFICIENCY, edge=0.0, depth=0.0))
    traffic = 65536 * (65537 * itemsize + 2) / 0.9e12
    thin = seconds(matmul(1, 65536, 65536), endless, dtype)
    assert thin == pytest.approx(LAUNCH + traffic + 65536 * 5 / 0.9e12)
    core = attention(2048, 2048, 16)
    assert seconds(core, dtype=dtype) == seconds(core, dtype="bf16")


def test_tf32_multiplies_at_its_own_rate_what_takes_four_bytes() -> None:
    product, copy = matmul(8192, 8192, 8192), memory(1e9)
    assert kernel_seconds(product, GPU, "tf32", 4) > 1.9 * seconds(product)
    assert kernel_seconds(copy, GPU, "tf32", 4) == pytest.approx(LAUNCH + 4e9 / 0.9e12)


def test_a_kernel_without_a_shape_reaches_what_an_endless_one_does() -> None:
    assert seconds(Kernel("matmul", 8e12, 1.0)) == pytest.approx(LAUNCH + 0.1)
    assert seconds(Kernel("attention", 6e12, 1.0)) == pytest.approx(LAUNCH + 0.1)
    huge = matmul(10**6, 10**6, 10**6)
    assert seconds(huge) == pytest.approx(seconds(Kernel("matmul", huge.flops, 1.0)), rel=1e-3)


def test_without_losses_a_shape_changes_nothing() -> None:
    plain = faster(efficiency=Efficiency(matmul=0.8, memory=0.9))
    for kernel in KERNELS:
        shapeless = Kernel(kernel.kind, kernel.flops, kernel.elements)
        assert seconds(kernel, plain) == seconds(shapeless, plain)


@pytest.mark.parametrize("grown", range(4))
def test_more_work_is_never_faster(grown: int) -> None:
    for dtype in ("bf16", "fp8"):
        shapes = [[size if i == grown else 512 for i in range(4)] for size in SIZES]
        times = [seconds(matmul(*shape), dtype=dtype) for shape in shapes]
        assert all(short < long for short, long in pairwise(times))
    lengths = [[size if i == grown % 3 else 512 for i in range(3)] for size in SIZES]
    times = [seconds(attention(*each)) for each in lengths]
    assert all(short < long for short, long in pairwise(times))


def test_nothing_is_faster_than_the_peak_or_the_bandwidth() -> None:
    for kernel in KERNELS:
        flops = 0.0 if kernel.kind == "memory" else kernel.flops
        assert seconds(kernel) >= LAUNCH + max(flops / PEAK, kernel.elements * 2 / BANDWIDTH)


def test_a_better_device_is_never_slower_and_a_faster_launch_always_helps() -> None:
    better = [
        faster(peak={dtype: 2 * rate for dtype, rate in GPU.peak.items()}),
        faster(memory_bandwidth=2 * BANDWIDTH),
        faster(efficiency=replace(EFFICIENCY, matmul=0.9)),
        faster(efficiency=replace(EFFICIENCY, edge=10, depth=10)),
    ]
    for kernel in KERNELS:
        assert all(seconds(kernel, device) <= seconds(kernel) for device in better)
        assert seconds(kernel, faster(launch_overhead=0.0)) == pytest.approx(seconds(kernel) - LAUNCH)


def test_small_shapes_take_longer_for_each_flop() -> None:
    for sizes in ([(4096, 4096, k) for k in SIZES], [(m, 4096, 4096) for m in SIZES]):
        rates = [matmul(*shape).flops / seconds(matmul(*shape)) for shape in sizes]
        assert all(small < large for small, large in pairwise(rates))


def test_small_copies_do_not_reach_the_bandwidth() -> None:
    rates = [2 * size / seconds(memory(size)) for size in (1e3, 1e5, 1e7, 1e9)]
    assert all(small < large for small, large in pairwise(rates))
    assert rates[0] < 0.01 * BANDWIDTH
    assert rates[-1] == pytest.approx(0.9 * BANDWIDTH, rel=1e-2)
