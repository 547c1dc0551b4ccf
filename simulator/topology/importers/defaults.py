"""Latencies that the formats do not carry: defaults, said to be so in the `source` of every imported link."""

from simulator.units import parse_seconds

NVLINK_LATENCY = parse_seconds("1 us")
NVLINK_REASON = (
    "Latency: default, 2 us from GPU to GPU over NVSwitch, between the 0.6 us (LL) and 3.4 us (Simple) of a ring step "
    "over NVLink in NCCL's tuning table (src/graph/tuning.cc)."
)

PCIE_LATENCY = parse_seconds("1.5 us")
PCIE_REASON = (
    "Latency: default, 3 us from GPU to GPU, between the 1.0 us (LL) and 5.7 us (Simple) of a ring step over PCI in "
    "NCCL's tuning table (src/graph/tuning.cc)."
)

BRIDGE_LATENCY = parse_seconds("0.15 us")
BRIDGE_REASON = "Latency: default, a PCIe switch passes a packet on in 0.1 us to 0.15 us."

CARD_LATENCY = parse_seconds("2 us")
CARD_REASON = (
    "Latency: default; twice that between two GPUs lies between the 2.7 us (LL) and 14 us (Simple) of a ring step over "
    "the network in NCCL's tuning table (src/graph/tuning.cc)."
)

SWITCH_LATENCY = parse_seconds("0.3 us")
SWITCH_REASON = (
    "Latency: default, a switch passes a packet on in 0.13 us to 0.15 us (InfiniBand HDR and NDR class), and 30 m of "
    "fibre take 0.15 us."
)
