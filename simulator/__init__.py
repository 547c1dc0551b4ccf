"""Predicts the time and memory of a distributed training step; never imports torch."""

__version__ = "0.1.0"
