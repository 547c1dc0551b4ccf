"""Somebody's ``nn.Module`` as a layer graph: traced, grouped into layers, priced, and run layer by layer."""

from executor.tracing.imported import Imported

__all__ = ["Imported"]
