"""Which parts of a stage run forward again before their backward."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from simulator.model.graph import LayerGraph, Node
from simulator.model.layers import Attention, LatentAttention
from simulator.plan.plan import Plan


class Unit(NamedTuple):
    """Nodes that run again together, or none of them; the first of them, and the number of their block."""

    start: int
    block: int
    recomputed: bool


def recomputed_units(graph: LayerGraph, plan: Plan, nodes: Sequence[Node], blocks: list[int]) -> list[Unit]:
    """Return the units of a stage: its blocks, or the cores of attention and what stands between them.

    Parameters
    ----------
    graph, plan
        The model, and what of it is recomputed.
    nodes
        Of the stage.
    blocks
        Index of the first node of each block; ``[0]`` in plans that treat no block apart.
    """
    spans = list(pairwise([*blocks, len(nodes)]))
    if plan.recompute == "selective":
        return list(_cores(plan, nodes, blocks))
    again = [plan.recompute == "full" and _keeps_more_than_inputs(graph, nodes[a:b]) for a, b in spans]
    left = len(spans) if plan.recompute_blocks is None else plan.recompute_blocks
    return [Unit(start, block, again[block] and sum(again[:block]) < left) for block, (start, _) in enumerate(spans)]


def _cores(plan: Plan, nodes: Sequence[Node], blocks: list[int]) -> Iterator[Unit]:
    """Yield the units of selective recomputation (Korthikanti et al. 2022, arXiv 2205.05198, section 5).

    A core reads what the projections made, which is kept: of a block nothing is lost but scores and softmax.
    """
    cores = [index for index, node in enumerate(nodes) if isinstance(node.layer, Attention | LatentAttention)]
    with_core = list(dict.fromkeys(nodes[index].block for index in cores))
    chosen = set(with_core[: plan.recompute_blocks])
    cores = [index for index in cores if nodes[index].block in chosen]
    for start in sorted({*blocks, *cores, *(index + 1 for index in cores)} - {len(nodes)}):
        yield Unit(start, bisect(blocks, start) - 1, start in cores)


def _keeps_more_than_inputs(graph: LayerGraph, nodes: Sequence[Node]) -> bool:
    """Return whether recomputing a block saves anything; backward of the block of the loss follows at once."""
    made = {node.name for node in nodes}
    read = {graph.values[name] for node in nodes for place, name in enumerate(node.inputs) if node.layer.saves(place)}
    saved = (read & made) | {node.name for node in nodes if node.layer.saves_output}
    extra = any(node.layer.extra_saved_bytes(graph.input_shapes(node), 1, 1) for node in nodes)
    return graph.loss not in nodes and (bool(saved) or extra)
