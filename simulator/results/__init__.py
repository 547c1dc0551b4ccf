"""What both interpreters write, and what is read from it."""

from simulator.results.metrics import Metrics, measure
from simulator.results.timeline import Span, Timeline

__all__ = ["Metrics", "Span", "Timeline", "measure"]
