"""Measures what a device reaches whatever the model: streams, products, tiny kernels, computing beside a message.

The same code on every device; only a clock is a device's own: events in the order of its work on a GPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median

import torch
import torch.distributed as dist
from torch import Tensor

from executor.lanes import MILLISECOND
from executor.runtime import DTYPES
from simulator.cost.calibration import LAUNCH_OVERHEAD, MEMORY_BANDWIDTH, OVERLAP_SLOWDOWN, product_rate
from simulator.cost.kernels import product_seconds
from simulator.model.layers.base import matmul
from simulator.topology import Device
from simulator.units import parse_bytes, parse_seconds

REPEATS = 3
"""Times that a sample measures everything; it keeps the medians, so that one stall does not set a figure."""

STREAM, LEAST_ARRAY = parse_seconds("300 us"), parse_bytes("64 MiB")
"""Arrays of a stream: what the stated bandwidth moves in that time, and no less, so that caches do not hold them."""

LONGEST_PRODUCT = parse_seconds("5 ms")
"""At the stated peak; the sweep's largest product takes no longer."""

SHRINKING = (4, 2, 1)
"""Sides of the products of a sweep: the largest one's over these."""

TINY = 200
"""Kernels on one element in a row: few enough for a host to queue them all while the device computes before them."""

MESSAGE, LARGEST_MESSAGE = parse_bytes("16 MiB"), parse_bytes("1 GiB")
"""Message beside which to compute, unless it has to be longer."""

OUTLASTING = 3
"""A message alone takes so many times as long as the computation alone: it must outlast it when both are slower."""


class DeviceMeter:
    """Takes samples of a rank's device, with tensors of its own.

    Parameters
    ----------
    device
        What to measure.
    stated
        What the topology says of it: sizes follow from its peaks, and products have its padding.
    dtypes
        Of the products.
    control
        Group of all ranks, for beginning together.
    """

    def __init__(
        self, device: torch.device, stated: Device, dtypes: Iterable[str], control: dist.ProcessGroup | None
    ) -> None:
        self._device, self._stated, self._control = device, stated, control
        self._dtypes = sorted(dtypes)
        size = max(LEAST_ARRAY, STREAM * stated.memory_bandwidth)
        self._arrays = [torch.ones(int(size) // 4, device=device) for _ in range(3)]
        self._one = torch.zeros(1, device=device)
        self._operands: dict[tuple[str, int], list[Tensor]] = {}
        self._message: Tensor | None = None

    @torch.no_grad()
    def alone(self) -> dict[str, float]:
        """Measure what concerns no other rank: bytes/s, seconds of a launch, FLOP/s of endless products by dtype."""
        launch = self._middle(self._launch)
        return {
            MEMORY_BANDWIDTH: self._middle(self._stream),
            LAUNCH_OVERHEAD: launch,
            **{product_rate(dtype): self._products(dtype, launch) for dtype in self._dtypes},
        }

    @torch.no_grad()
    def beside_message(self) -> dict[str, float]:
        """Measure by what fraction computing is slower while a message comes and goes; all ranks must ask together."""
        if dist.get_world_size(self._control) == 1:
            return {}
        compute = self._computation()
        message = self._outlasting(self._seconds(compute))
        return {OVERLAP_SLOWDOWN: self._middle(partial(self._overlap, compute, message))}

    def _overlap(self, compute: Callable[[], None], message: Tensor) -> float:
        dist.barrier(group=self._control)
        alone = self._seconds(compute)
        dist.barrier(group=self._control)
        handle = dist.all_reduce(message, async_op=True)
        assert handle is not None
        beside = self._seconds(compute)
        handle.wait()
        return 1 - alone / beside

    def _outlasting(self, compute: float) -> Tensor:
        """Return a message, the same on all ranks, that takes longer than a computation of so many seconds."""
        if self._message is None:
            self._message = torch.zeros(int(MESSAGE) // 4, device=self._device)
            alone = self._middle(partial(self._seconds, partial(dist.all_reduce, self._message)))
            times = torch.tensor([OUTLASTING * compute / alone])
            dist.all_reduce(times, dist.ReduceOp.MAX, group=self._control)
            size = min(LARGEST_MESSAGE, MESSAGE * max(1, math.ceil(times.item())))
            self._message = torch.zeros(int(size) // 4, device=self._device)
        return self._message

    def _stream(self) -> float:
        """Return the bytes/s of a copy and a triad, read and written: one operand or two in, one out."""
        first, second, result = self._arrays

        def move() -> None:
            result.copy_(first)
            torch.add(first, second, alpha=2.0, out=result)

        return 5 * first.nbytes / self._seconds(move)

    def _launch(self) -> float:
        """Return the seconds that the device takes for each of many kernels that do nothing."""
        self._computation()()  # While a GPU computes, its host queues what follows, and no longer holds it up.

        def launch() -> None:
            for _ in range(TINY):
                self._one.add_(1.0)

        return self._seconds(launch) / TINY

    def _products(self, dtype: str, launch: float) -> float:
        """Return the FLOP/s of an endless product: the median over a sweep of shapes, each without its padding."""
        rates = []
        endless = self._stated.peak[dtype] * self._stated.efficiency.of_products(dtype)
        for shrinking in SHRINKING:
            side = self._largest_side(dtype) // shrinking
            seconds = self._middle(partial(self._seconds, self._multiplication(dtype, side)))
            stated = product_seconds(matmul(side, side, side), self._stated, dtype)
            rates.append(endless * stated / max(seconds - launch, seconds / 2))
        return median(rates)

    def _computation(self) -> Callable[[], None]:
        """Return the sweep's largest product, what a GPU computes meanwhile."""
        dtype = self._dtypes[0]
        return self._multiplication(dtype, self._largest_side(dtype))

    def _multiplication(self, dtype: str, side: int) -> Callable[[], None]:
        if (dtype, side) not in self._operands:
            # Random values: zeros and ones cost a GPU less power, and so run at a higher clock than training does.
            self._operands[dtype, side] = [
                torch.randn(side, side, device=self._device).to(DTYPES[dtype]) for _ in range(3)
            ]
        first, second, result = self._operands[dtype, side]

        def multiply() -> None:
            torch.mm(first, second, out=result)

        return multiply

    def _largest_side(self, dtype: str) -> int:
        """Return the largest power of two whose product takes no longer than it may."""
        return int(2 ** math.floor(math.log2(LONGEST_PRODUCT * self._stated.peak[dtype] / 2) / 3))

    def _middle(self, measure: Callable[[], float]) -> float:
        """Return the median of some measurements after one that only wakes caches and memory."""
        measure()
        return median(measure() for _ in range(REPEATS))

    def _seconds(self, work: Callable[[], object]) -> float:
        """Return the time of some work on the device."""
        if self._device.type != "cuda":
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * MILLISECOND
