"""Seconds and bytes of an instruction."""

from simulator.cost.calibration import Calibration
from simulator.cost.collectives import Transfer
from simulator.cost.compute import ComputeCost
from simulator.cost.memory import Memory, peak_memory

__all__ = ["Calibration", "ComputeCost", "Memory", "Transfer", "peak_memory"]
