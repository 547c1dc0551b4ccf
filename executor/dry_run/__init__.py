"""Runs the program of single ranks of a cluster on tensors without values, and holds it against the Program."""
