"""SimPy runs the Program: streams, the shared network, and the folding of identical ranks."""

from simulator.engine.run import simulate

__all__ = ["simulate"]
