"""Where the executor is known to do otherwise than the Program says, and why; ``docs/dry-run.md`` has the figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from simulator.load import Inputs
from simulator.model.layers import Attention, LatentAttention
from simulator.program.instructions import BACKWARD, Instruction, Kind


class Known(NamedTuple):
    """A known difference.

    Parameters
    ----------
    what
        ``FLOPs``, ``messages``, ``activations`` or ``gradients``.
    kinds
        Of the instructions that differ; empty for all.
    reason
        What the executor does, and why.
    """

    what: str
    kinds: tuple[Kind, ...]
    reason: str

    def covers(self, instruction: Instruction | None, what: str) -> bool:
        """Return whether a difference is this one."""
        return what == self.what and (not self.kinds or (instruction is not None and instruction.kind in self.kinds))


def known(inputs: Inputs) -> tuple[Known, ...]:
    """Return what is known of a plan and a model."""
    return tuple(_known(inputs))


def _known(inputs: Inputs) -> Iterator[Known]:
    plan, nodes = inputs.plan, inputs.program.graph.nodes
    if plan.cp > 1 and plan.context_parallel == "ring":
        ring = "the executor keeps a ring's blocks for backward and passes gradients alone, not keys and values again"
        yield Known("messages", (Kind.CP_B,), ring)
        yield Known("FLOPs", BACKWARD, ring)
        yield Known("activations", (), ring)
    if any(isinstance(node.layer, LatentAttention) and node.layer.flash for node in nodes):
        wide = "torch fuses attention only where values are as wide as keys; the executor materialises the scores"
        yield Known("FLOPs", BACKWARD, wide)
        yield Known("activations", (), wide)
    if any(isinstance(node.layer, Attention) and node.layer.flash and node.layer.draws for node in nodes):
        yield Known(
            "FLOPs", BACKWARD, "with dropout the executor materialises fused attention and makes the context again"
        )
    if plan.reduces_each:
        yield Known("gradients", (), "the executor keeps gradients whole beside the part of their sum")
