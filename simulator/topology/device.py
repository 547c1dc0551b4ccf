"""What computes: a device (one rank runs on it) and the host it sits in.

Units: bytes, bytes/s, FLOP/s, seconds. Rates are dense peaks from a data sheet; `Efficiency` says how much of them a
large kernel reaches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from simulator.units import parse_bandwidth

Backend = Literal["cuda", "cpu", "emulated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionEfficiency:
    """What a device reaches in fused (flash) attention: fractions of the dense peak, and what short work loses.

    Attention of n keys takes as long as one of n + ``edge`` keys, and q queries as long as q + ``rows`` queries, at
    the rates of endless sequences.

    Parameters
    ----------
    forward, backward : float
        Fractions (0 to 1) of the dense peak by endless sequences; backward of its own four products, the scores that
        it computes again not counted.
    edge : float
        Keys: the softmax and the blocks on a mask's diagonal, which are computed whole.
    rows : float
        Queries of all heads together: thread blocks that stay empty while a small kernel runs.
    over_flash2 : float
        How many times as fast as FlashAttention-2 on this device.
    """

    forward: float
    backward: float
    edge: float = 0.0
    rows: float = 0.0
    over_flash2: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """What kernels reach: fractions (0 to 1) of the peaks by endless work, and what small shapes lose.

    A product (m x k) @ (k x n) takes as long as one of (m + ``edge``) x (n + ``edge``) x (k + ``depth``) at the rate
    of an endless one.

    Parameters
    ----------
    matmul : float
        Of the dense peak FLOP/s, by an endless matrix product.
    memory : float
        Of the memory bandwidth, by a kernel that streams through memory.
    by_dtype : Mapping[str, float]
        What replaces ``matmul`` in some dtypes.
    edge : float
        Rows and columns: tiles that hang over the edges of the result, the last wave of them.
    depth : float
        Products along the sum: the time in which a tile's pipeline fills and its result is written.
    cast : float
        Bytes of memory traffic for each element of the first operand of an fp8 product, which is cast before it.
    attention : AttentionEfficiency or None
        None: fused attention is priced as a matrix product, at ``matmul`` without losses.
    """

    matmul: float
    memory: float
    by_dtype: Mapping[str, float] = field(default_factory=dict, hash=False)
    edge: float = 0.0
    depth: float = 0.0
    cast: float = 0.0
    attention: AttentionEfficiency | None = None

    def of_products(self, dtype: str) -> float:
        """Return the fraction of the dtype's peak that endless matrix products reach."""
        return self.by_dtype.get(dtype, self.matmul)


DEFAULT_EFFICIENCY = Efficiency(matmul=0.6, memory=0.8)
DEFAULT_EFFICIENCY_SOURCE = (
    "default: on A100 and H100 large bf16 matrix products reach 70% to 85% of the dense peak and stream kernels 80% to "
    "90% of the memory bandwidth; 60% and 80% leave room for the smaller kernels of a real layer"
)


DEFAULT_HOST_LINK = parse_bandwidth("26.28 GB/s")
DEFAULT_HOST_LINK_SOURCE = (
    "default: 26.28 GB/s, measured from a host to an A100 over PCIe 4.0 x16 (egmsft/AI-benchmarking-guide, "
    "ND_A100_v4_results.md)"
)
DEFAULT_UPDATE = parse_bandwidth("39.6 GB/s")
DEFAULT_UPDATE_SOURCE = (
    "default: 39.6 GB/s a host; DeepSpeed's CPU-Adam updates 11.6 billion parameters, 28 bytes each, in 8.2 s "
    "(deepspeedai/DeepSpeed, pull request 735)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostShare:
    """What one device has of its host, for what a plan moves there, while all devices of the node use it.

    Parameters
    ----------
    link : float
        Bytes/s of copies between pinned host memory and the device, each direction.
    update : float
        Bytes/s at which the host reads and writes in an optimizer's update.
    memory : float
        Bytes of host memory; infinite where the topology does not say.
    link_source, update_source : str
        Where the numbers come from.
    """

    link: float = DEFAULT_HOST_LINK
    update: float = DEFAULT_UPDATE
    memory: float = float("inf")
    link_source: str = DEFAULT_HOST_LINK_SOURCE
    update_source: str = DEFAULT_UPDATE_SOURCE


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
        Seconds of the device that each kernel costs besides its work.
    host_launch : float
        Seconds of the host for each kernel; kernels cannot follow each other faster.
    library : str
        The file of ``topologies/devices`` that it comes from; empty when the topology says everything itself.
    speed : float
        1.0 is nominal; 0.8 is a slow device, whose kernels take 1 / 0.8 of the time.
    overlap_slowdown : float
        Fraction (0 to 1) by which computing is slower while a message at its full speed comes or goes.
    host : HostShare
        What it has of its host.
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
    host_launch: float = 0.0
    library: str = ""
    speed: float = 1.0
    overlap_slowdown: float = 0.0
    host: HostShare = HostShare()
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
