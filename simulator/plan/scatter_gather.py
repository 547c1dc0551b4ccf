"""Messages between stages cut over tensor-parallel ranks, which all have the same tensor there.

Megatron's scatter/gather optimization (Narayanan et al. 2021, arXiv 2104.04473, section 4.1): each rank sends its part
over its own network card, and the ranks of the next stage gather the parts over the links inside their node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from simulator.errors import Problems
from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.model.layers import Exchange
from simulator.model.layers.base import count
from simulator.model.layers.exchange import NOTHING
from simulator.plan.plan import Plan


def cut_messages(
    graph: LayerGraph, cuts: Sequence[int], placement: Sequence[int], plan: Plan, problems: Problems
) -> tuple[LayerGraph, tuple[int, ...]] | None:
    """Return the graph with exchanges at the borders of stages, and the first node of each stage; or report why not.

    Parameters
    ----------
    graph, cuts
        Of one tensor-parallel rank, and the first node of each stage.
    placement
        Rank of each stage: nothing is sent between stages of one rank.
    plan
        Says over how many ranks.
    problems
        Told what cannot be cut.
    """
    key = "plan.scatter_gather"
    if plan.sequence_parallel:
        message = "with sequence_parallel each rank has a part of the sequence already"
        problems.add(key, message, "leave scatter_gather or sequence_parallel out")
        return None
    nodes, firsts = list(graph.nodes), list(cuts)
    sizes = {name: count(graph.shape(name)) for name in (INPUT, *graph.by_name)}
    for stage, (before, after) in enumerate(pairwise(placement[: len(cuts)]), 1):
        if before == after:
            continue
        names = _crossing(nodes, firsts[stage])
        if uneven := [name for name in names if sizes[name] % plan.tp]:
            elements = f"the {sizes[uneven[0]]} elements of {uneven[0]}"
            message = f"tp({plan.tp}) does not divide {elements}, which goes from stage {stage - 1} to stage {stage}"
            problems.add(key, message, "leave scatter_gather out")
            return None
        sizes |= {f"{name}+whole": sizes[name] for name in names}
        nodes = _with_exchanges(nodes, firsts[stage], names, plan.tp)
        added = len(names)
        firsts[stage:] = [firsts[stage] + added, *(first + 2 * added for first in firsts[stage + 1 :])]
    return replace(graph, nodes=tuple(nodes), _shapes={}), tuple(firsts)


def _crossing(nodes: Sequence[Node], cut: int) -> list[str]:
    """Return the tensors that are made before a node and read from it on."""
    read = {name for node in nodes[cut:] for name in node.inputs}
    return [name for name in (INPUT, *(node.name for node in nodes[:cut])) if name in read]


def _with_exchanges(nodes: Sequence[Node], cut: int, names: Sequence[str], tp: int) -> list[Node]:
    """Return the nodes with exchanges on both sides of a cut: part of no block, so that none runs again with one."""
    blocks = {node.name: node.block for node in nodes[:cut]}
    gathers_gradient = Exchange(axis="tp", forward=NOTHING, backward="all_gather", num_ranks=tp, in_parts=True)
    gathers = Exchange(axis="tp", forward="all_gather", backward=NOTHING, num_ranks=tp, in_parts=True)
    # The block of the stage before: in this one none has begun.
    leave = [Node(name=f"{each}+share", layer=gathers_gradient, inputs=(each,), block=blocks[each]) for each in names]
    arrive = [
        Node(name=f"{each}+whole", layer=gathers, inputs=(f"{each}+share",), block=blocks[each]) for each in names
    ]
    changed = {name: f"{name}+whole" for name in names}
    rest = [replace(node, inputs=tuple(changed.get(name, name) for name in node.inputs)) for node in nodes[cut:]]
    return [*nodes[:cut], *leave, *arrive, *rest]
