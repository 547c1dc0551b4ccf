"""WHAT is trained: layer kinds, the layer graph and the model families."""

from simulator.model.graph import LayerGraph, Node
from simulator.model.layers.base import Kernel, Layer, Phase, Shape

__all__ = ["Kernel", "Layer", "LayerGraph", "Node", "Phase", "Shape"]
