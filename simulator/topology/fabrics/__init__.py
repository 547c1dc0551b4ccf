"""What joins the nodes of a template: one kind of fabric a file."""

from simulator.topology.fabrics.base import Fabric
from simulator.topology.fabrics.build import build_fabric, seed_of
from simulator.topology.fabrics.schema import DirectSchema, FabricSchema

__all__ = ["DirectSchema", "Fabric", "FabricSchema", "build_fabric", "seed_of"]
