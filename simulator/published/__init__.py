"""Runs that others published: a row of a table -> model, topology and plan, and what it measured."""

from simulator.published.convert import PublishedRun, convert
from simulator.published.measured import peak_bytes, step_seconds
from simulator.published.row import Row, read_rows

__all__ = ["PublishedRun", "Row", "convert", "peak_bytes", "read_rows", "step_seconds"]
