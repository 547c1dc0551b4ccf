"""What dumps of NCCL and RCCL say in numbers: GPU models by PCI id, and the bandwidth of one link of a generation."""

MODELS = {
    ("0x10de", "0x1db1"): "V100-SXM-16GB",
    ("0x10de", "0x1db5"): "V100-SXM-32GB",
    ("0x10de", "0x20b0"): "A100-SXM-40GB",
    ("0x10de", "0x20b2"): "A100-SXM-80GB",
    ("0x10de", "0x20b5"): "A100-PCIe-80GB",
    ("0x10de", "0x20f1"): "A100-PCIe-40GB",
    ("0x10de", "0x2330"): "H100-SXM",
    ("0x10de", "0x2331"): "H100-PCIe",
    ("0x10de", "0x2335"): "H200-SXM",
    ("0x10de", "0x26b9"): "L40S",
    ("0x10de", "0x2901"): "B200",
    ("0x10de", "0x2941"): "GB200",
    ("0x1002", "0x738c"): "MI100",
    ("0x1002", "0x740c"): "MI250X",
    ("0x1002", "0x74a1"): "MI300X",
}
"""PCI vendor and device -> model. Source: the PCI ID database (pci.ids)."""

NVLINK_BY_SM = {60: "20 GB/s", 70: "25 GB/s", 80: "25 GB/s", 90: "25 GB/s", 100: "50 GB/s", 103: "50 GB/s"}
"""Compute capability -> bandwidth of one NVLink per direction. NVIDIA data sheets, both directions together: P100
160 GB/s for 4 links, V100 300 for 6, A100 600 for 12, H100 900 for 18, B200 1,800 for 18."""

XGMI_BY_GCN = {
    "gfx906": "46 GB/s",
    "gfx908": "46 GB/s",
    "gfx90a": "50 GB/s",
    "gfx942": "64 GB/s",
    "gfx950": "76.8 GB/s",
}
"""Architecture -> bandwidth of one Infinity Fabric link between GPUs per direction. AMD data sheets, both directions of
one link: MI50 and MI100 92 GB/s, MI250X 100, MI300X 128, MI355X 153.6."""
