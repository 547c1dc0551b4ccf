"""Layers as torch computes them: one function a kind, ``forward(layer, parameters, *inputs)``."""

from executor.modules.build import LayerModule, forward_of

__all__ = ["LayerModule", "forward_of"]
