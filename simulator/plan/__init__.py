"""HOW the model is trained: the plan, the mesh of ranks, tensor-parallel rewriting and the cut into stages."""

from simulator.plan.mesh import Mesh
from simulator.plan.plan import Optimizer, Plan

__all__ = ["Mesh", "Optimizer", "Plan"]
