"""Models on the devices of one PCIe box."""

from simulator.load import Inputs, load


def inputs(model: str, *changes: str, topology: str = "pcie-box", devices: int = 1) -> Inputs:
    return load(model, topology, "single", [f"topology.node.count={devices}", "plan.dp=auto", *changes])
