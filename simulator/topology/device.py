"""What computes: a device (one rank runs on it) and the host it sits in.

Units: bytes, bytes/s, FLOP/s, seconds. Rates are dense peaks from a data sheet; `Efficiency` says how much of them a
large kernel reaches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Backend = Literal["cuda", "cpu", "emulated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Fractions (0 to 1) of the peaks that large kernels reach.

    Parameters
    ----------
    matmul : float
        Of the dense peak FLOP/s, by a large matrix product.
    memory : float
        Of the memory bandwidth, by a kernel that streams through memory.
    """

    matmul: float
    memory: float


DEFAULT_EFFICIENCY = Efficiency(matmul=0.6, memory=0.8)
DEFAULT_EFFICIENCY_SOURCE = (
    "default: on A100 and H100 large bf16 matrix products reach 70% to 85% of the dense peak and stream kernels 80% to "
    "90% of the memory bandwidth; 60% and 80% leave room for the smaller kernels of a real layer"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator or one CPU process; exactly one rank runs on it.

    Parameters
    ----------
    kind : str
        The name under `devices:` in the topology file.
    backend : {"cuda", "cpu", "emulated"}
        What the executor uses: CUDA and NCCL, CPU and gloo, or timers and gloo.
    memory : float
        Capacity in bytes.
    memory_bandwidth : float
        Peak bytes/s, reads and writes together.
    peak : Mapping[str, float]
        Dense peak FLOP/s by dtype (fp32, tf32, bf16, fp16, fp8, ...); a dtype that is not there cannot be computed.
    efficiency : Efficiency
        Fractions of the two peaks that large kernels reach.
    efficiency_source : str
        Where the efficiency comes from.
    launch_overhead : float
        Seconds that each kernel costs besides its work.
    speed : float
        1.0 is nominal; 0.8 is a slow device, whose kernels take 1 / 0.8 of the time.
    overlap_slowdown : float
        Fraction (0 to 1) by which computing is slower while a message at its full speed comes or goes.
    source : str
        Where the numbers come from.
    """

    kind: str
    backend: Backend
    memory: float
    memory_bandwidth: float
    # A dict has no hash; two devices that are equal are still found equal by their other fields' hash.
    peak: Mapping[str, float] = field(hash=False)
    efficiency: Efficiency = DEFAULT_EFFICIENCY
    efficiency_source: str = DEFAULT_EFFICIENCY_SOURCE
    launch_overhead: float
    speed: float = 1.0
    overlap_slowdown: float = 0.0
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine that holds the devices of one node.

    Parameters
    ----------
    index : int
        The node's number.
    cores : int or None
        CPU cores that the ranks of this node share when they compute; None when their compute shares nothing (GPUs).
    memory : float or None
        Bytes that the ranks of this node share; None when each device has its own.
    """

    index: int
    cores: int | None = None
    memory: float | None = None
